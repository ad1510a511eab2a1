"""The web application: all routes, and errors in openEO's form."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from sandbox.admin_routes import admin_routes
from sandbox.auth_routes import login_routes, provider_routes
from sandbox.discovery_routes import discovery_routes
from sandbox.errors import OpenEOError
from sandbox.faults import Faults
from sandbox.job_routes import job_routes
from sandbox.options import API_PATH
from sandbox.result_routes import result_routes

if TYPE_CHECKING:
    import contextlib

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from sandbox.backend import Backend

_NOT_FOUND, _METHOD_NOT_ALLOWED = 404, 405


def create_app(backend: Backend) -> ASGIApp:
    """The ASGI application of a back-end."""

    def lifespan(_app: Starlette) -> contextlib.AbstractAsyncContextManager[None]:
        return backend.running()

    api = [*discovery_routes(backend), *login_routes(backend), *job_routes(backend), *result_routes(backend)]
    app = Starlette(
        routes=[
            *_below(API_PATH, api),
            *[route for route in discovery_routes(backend) if route.path == "/.well-known/openeo"],
            Mount("/oidc", routes=provider_routes(backend)),
            *admin_routes(backend),
        ],
        exception_handlers={OpenEOError: _openeo_error, HTTPException: _http_error, Exception: _unexpected},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return Faults(app, backend)


def _below(prefix: str, routes: list[Route]) -> list[Route]:
    """Routes under a prefix; its root answers with and without a slash. Flat, so that no request is redirected."""
    moved = [Route(prefix + route.path, route.endpoint, methods=_methods(route)) for route in routes]
    return [*moved, *(Route(prefix, route.endpoint) for route in routes if route.path == "/")]


def _methods(route: Route) -> list[str]:
    return sorted((route.methods or set()) - {"HEAD"})


def _respond(error: OpenEOError) -> Response:
    return JSONResponse(error.to_dict(), error.status, headers=error.headers)


async def _openeo_error(_request: Request, error: Exception) -> Response:
    if isinstance(error, OpenEOError):
        return _respond(error)
    raise error


async def _http_error(_request: Request, error: Exception) -> Response:
    """What the router could not place."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == _METHOD_NOT_ALLOWED:
        return _respond(OpenEOError("FeatureUnsupported", "Feature not supported."))
    return _respond(
        OpenEOError("NotFound" if status == _NOT_FOUND else "Internal", f"Not found ({status}).", status=status)
    )


async def _unexpected(_request: Request, error: Exception) -> Response:
    traceback.print_exception(error)
    return _respond(OpenEOError("Internal", f"Server error: {error!r}"))
