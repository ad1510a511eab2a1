"""Run the back-end as a web server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn

from sandbox.app import create_app
from sandbox.backend import Backend
from sandbox.options import API_PATH
from sandbox.wire import OneWriteProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.options import Options

#: Longer than any client's polling interval, so that no kept connection closes under a request, s.
_KEEP_ALIVE = 90
#: How long requests may go on after the signal to stop, s.
_GRACE = 2
_BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which ends the process by the signal again after a clean stop."""

    def stop(self) -> None:
        """Finish what goes on, then end."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT.

    Prints one line with the back-end's URL when it answers, and writes the ready file.

    Raises:
        OSError: when the address is taken.
    """
    with _listen(options.host, options.port) as listener:
        asyncio.run(_serve(options, listener))


async def _serve(options: Options, listener: socket.socket) -> None:
    config = uvicorn.Config(
        create_app(Backend(options)),
        http=OneWriteProtocol,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    if server.started:
        _announce(options, listener)
    await serving


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _announce(options: Options, listener: socket.socket) -> None:
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{listener.getsockname()[1]}{API_PATH}"
    if options.ready_file:
        _write_whole(options.ready_file, json.dumps({"url": url, "pid": os.getpid()}))
    sys.stdout.write(f"openEO sandbox at {url}\n")
    sys.stdout.flush()


def _write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees all of it or nothing."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
