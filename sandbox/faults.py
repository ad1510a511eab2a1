"""The faults of the web: latency, errors of servers and proxies, rate limits, answers and downloads that get lost.

An ASGI layer around the application; what it does comes from the behaviour, what it did is counted in the stats.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from sandbox.errors import OpenEOError
from sandbox.options import API_PATH
from sandbox.script import NOTHING
from sandbox.stats import kind_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sandbox.backend import Backend

_ASSET = re.compile(rf"^{API_PATH}/jobs/([^/]+)/results/assets/")
_START = re.compile(rf"^{API_PATH}/jobs/[^/]+/results$")
#: Key of a request's scope: the kind of fault if its answer is to be lost.
_LOST = "sandbox.lost"
_INTERNAL, _SUCCESS = 500, range(200, 300)
_REASONS = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}


def lose_answer(request: Request, kind: str) -> None:
    """Do not answer this request if it is a success; called by its route."""
    request.scope[_LOST] = kind


class Faults:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, backend: Backend) -> None:
        self._app, self._backend = app, backend
        self._tokens, self._refilled = 0.0, 0.0
        self._downloads: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or fail to."""
        if scope["type"] != "http" or scope["path"].startswith("/.sandbox"):
            await self._app(scope, receive, send)
            return
        self._backend.stats.request(kind_of(scope["method"], scope["path"]))
        send = self._counted(send)
        if self._backend.is_down:
            self._backend.stats.faults["down"] += 1
            await _hang_up(receive, send)
            return
        if self._backend.behaviour.latency > 0:
            await asyncio.sleep(self._backend.behaviour.latency)
        refusal = self._refusal() if scope["path"].startswith(API_PATH) else None
        if refusal is not None:
            await refusal(scope, receive, send)
        elif scope["method"] == "POST" and (chance := self._chance_of_loss(scope["path"])):
            await self._answer_or_not(scope, receive, send, lost=self._drawn(*chance))
        else:
            await self._app(scope, receive, self._download(scope, send))

    def _counted(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._backend.stats.statuses[str(message["status"])] += 1
            await send(message)

        counted.transport = _transport(send)  # type: ignore[attr-defined]
        return counted

    def _drawn(self, kind: str, share: float) -> bool:
        drawn = self._backend.dice.throw(kind, share, self._backend.behaviour.seed)
        if drawn:
            self._backend.stats.faults[kind] += 1
        return drawn

    def _refusal(self) -> Response | None:
        """The answer of a server in trouble or of a rate limit, if this request meets one."""
        behaviour = self._backend.behaviour
        retry = {"Retry-After": str(behaviour.retry_after)}
        if self._drawn("server_errors", behaviour.server_errors):
            status = behaviour.server_error_status or self._backend.dice.pick(
                "server_error_status", tuple(_REASONS), behaviour.seed
            )
            if status == _INTERNAL:
                error = OpenEOError("Internal", "Server error: simulated.")
                return JSONResponse(error.to_dict(), status)
            text = f"<html><head><title>{status} {_REASONS.get(status, '')}</title></head></html>"
            return PlainTextResponse(text, status, headers=retry if status == 503 else None, media_type="text/html")  # noqa: PLR2004 - HTTP
        if behaviour.rate_limit > 0 and not self._take_token(behaviour.rate_limit):
            self._backend.stats.faults["rate_limit"] += 1
            error = OpenEOError("TooManyRequests", "Too many requests: slow down.")
            return JSONResponse(error.to_dict(), error.status, headers=retry)
        return None

    def _take_token(self, rate: float) -> bool:
        """One token of a bucket that fills at `rate` per second and holds as many."""
        now = time.monotonic()
        full = max(1.0, rate)
        self._tokens = min(full, self._tokens + (now - self._refilled) * rate)
        self._refilled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _chance_of_loss(self, path: str) -> tuple[str, float] | None:
        """Kind and share of the answers that may be lost at a path."""
        if path == f"{API_PATH}/jobs":
            return "lost_answers", self._backend.behaviour.lost_answers
        return ("lost_starts", self._backend.behaviour.lost_starts) if _START.match(path) else None

    async def _answer_or_not(self, scope: Scope, receive: Receive, send: Send, *, lost: bool) -> None:
        """Do what was asked, then perhaps close the connection without a word; errors are answered all the same."""
        kept: list[Message] = []

        async def keep(message: Message) -> None:
            kept.append(message)

        await self._app(scope, receive, keep)
        if not lost and _LOST in scope:
            self._backend.stats.faults[scope[_LOST]] += 1
        if (lost or _LOST in scope) and kept and kept[0].get("status") in _SUCCESS:
            await _hang_up(receive, send)
            return
        for message in kept:
            await send(message)

    def _download(self, scope: Scope, send: Send) -> Send:
        """The way of an asset's bytes to the client, broken or shortened if the script or the draw says so."""
        asset = _ASSET.match(scope["path"]) if scope["method"] == "GET" else None
        if asset is None:
            return send
        behaviour = self._backend.behaviour
        scripted = self._scripted_download(asset[1])
        if scripted == "broken_downloads" or self._drawn("broken_downloads", behaviour.broken_downloads):
            return _Half(send, claims_all=True)
        if scripted == "short_downloads" or self._drawn("short_downloads", behaviour.short_downloads):
            return _Half(send, claims_all=False)
        return send

    def _scripted_download(self, job_id: str) -> str | None:
        """The fault of a job's download by the script."""
        job = self._backend.store.find(job_id)
        rule = self._backend.store.fates.of(job) if job is not None else NOTHING
        if not (rule.broken_download or rule.short_download):
            return None
        self._downloads[job_id] += 1
        if rule.downloads and self._downloads[job_id] > rule.downloads:
            return None
        kind = "broken_downloads" if rule.broken_download else "short_downloads"
        self._backend.stats.faults[kind] += 1
        return kind


class _Half:
    """Sends the first half of a body, either hanging up then or claiming that this was all."""

    def __init__(self, send: Send, *, claims_all: bool) -> None:
        self._send, self._claims_all = send, claims_all
        self._left: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._left is None:
            await self._send(message)
        elif self._left > 0:
            body = message.get("body", b"")[: self._left]
            self._left -= len(body)
            done = self._left == 0
            await self._send({**message, "body": body, "more_body": not done or self._claims_all})
            if done and self._claims_all and (transport := _transport(self._send)):
                transport.close()

    async def _begin(self, message: Message) -> None:
        headers = dict(message["headers"])
        length = int(headers.get(b"content-length", b"0"))
        if message["status"] in _SUCCESS and length > 1:
            self._left = length // 2
            if not self._claims_all:
                headers[b"content-length"] = str(self._left).encode()
        await self._send({**message, "headers": list(headers.items())})


def _transport(send: Any) -> Any:
    """The connection behind a `send`, as uvicorn keeps it on the object its `send` is a method of."""
    return getattr(send, "transport", None) or getattr(getattr(send, "__self__", None), "transport", None)


async def _hang_up(receive: Receive, send: Send) -> None:
    transport = _transport(send)
    if transport is None:
        raise ConnectionError("The answer was lost on purpose.")
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
