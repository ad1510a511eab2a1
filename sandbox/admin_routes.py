"""`/.sandbox/*`: look at the back-end and change how it behaves while it runs. Loopback only, unless a token is set."""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.behaviour import Behaviour, Dice
from sandbox.errors import OpenEOError
from sandbox.foreign import read_wanted
from sandbox.reading import json_body

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.backend import Backend


def admin_routes(backend: Backend) -> list[Route]:
    """Behaviour, jobs of other clients, and stats."""
    routes = _Admin(backend)
    return [
        Route("/.sandbox/behaviour", routes.show, methods=["GET"]),
        Route("/.sandbox/behaviour", routes.replace, methods=["PUT"]),
        Route("/.sandbox/behaviour", routes.change, methods=["PATCH"]),
        Route("/.sandbox/foreign-jobs", routes.add_foreign, methods=["POST"]),
        Route("/.sandbox/stats", routes.stats, methods=["GET"]),
        Route("/.sandbox/stats", routes.reset, methods=["DELETE"]),
    ]


class _Admin:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _check(self, request: Request) -> None:
        """Let the owner in.

        Raises:
            OpenEOError: for anybody else.
        """
        wanted = self._backend.options.admin_token
        if wanted is not None:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(wanted.encode(), given.encode()):
                raise OpenEOError("TokenInvalid", "The admin token is not correct.")
        elif request.client is None or not ipaddress.ip_address(request.client.host).is_loopback:
            raise OpenEOError("NotFound", "Not found.")

    async def show(self, request: Request) -> Response:
        self._check(request)
        return JSONResponse(self._backend.behaviour.to_dict())

    async def replace(self, request: Request) -> Response:
        """The whole behaviour anew: fields that are not sent go back to their defaults, chances begin again."""
        self._check(request)
        self._backend.change({**Behaviour().to_dict(), **await json_body(request)})
        self._backend.dice = Dice()
        return JSONResponse(self._backend.behaviour.to_dict())

    async def change(self, request: Request) -> Response:
        """Only the fields that are sent."""
        self._check(request)
        self._backend.change(await json_body(request))
        return JSONResponse(self._backend.behaviour.to_dict())

    async def add_foreign(self, request: Request) -> Response:
        """Another client of the same user makes jobs: an object with the fields of `Wanted`."""
        self._check(request)
        wanted = read_wanted(await json_body(request), self._backend.foreign_user)
        return JSONResponse({"user": wanted.user, "jobs": self._backend.add_foreign(wanted)}, 201)

    async def stats(self, request: Request) -> Response:
        self._check(request)
        counted = self._backend.stats.to_dict(self._backend.runner.slots)
        return JSONResponse({**counted, "jobs": self._backend.store.counts(), "warm": self._backend.pool.warm.is_set()})

    async def reset(self, request: Request) -> Response:
        self._check(request)
        self._backend.stats.reset()
        return Response(status_code=204)
