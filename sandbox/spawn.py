"""Start a back-end as a process of its own and talk to its admin routes: for tests, benchmarks and demos."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS, _STOP_SECONDS = 30.0, 10.0


@dataclass
class Sandbox:
    """A running back-end."""

    url: str
    """URL of its API."""
    process: subprocess.Popen[bytes]

    def behave(self, **changes: Any) -> dict[str, Any]:
        """Change fields of its behaviour; the whole behaviour then."""
        return self._admin("PATCH", "behaviour", changes)

    def reset(self, **behaviour: Any) -> dict[str, Any]:
        """Give it a behaviour anew, defaults where nothing is said."""
        return self._admin("PUT", "behaviour", behaviour)

    def add_jobs(self, jobs: int, **wanted: Any) -> list[str]:
        """Another client makes jobs now (for `user`, in `status`, with `title`, if given); their ids."""
        ids: list[str] = self._admin("POST", "foreign-jobs", {"jobs": jobs, **wanted})["jobs"]
        return ids

    def stats(self) -> dict[str, Any]:
        """Its counters: requests (also by time), submissions, statuses, faults, slots, jobs."""
        return self._admin("GET", "stats")

    def clear_stats(self) -> None:
        """Begin counting anew."""
        self._admin("DELETE", "stats")

    def wait_until_warm(self, seconds: float = 60.0) -> None:
        """Wait for the first executor.

        Raises:
            TimeoutError: when none gets warm in time.
        """
        deadline = time.monotonic() + seconds
        while not self.stats()["warm"]:
            if time.monotonic() > deadline:
                raise TimeoutError("No executor of the sandbox got warm.")
            time.sleep(0.05)

    def stop(self) -> int:
        """Stop it as a user would; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _admin(self, method: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        root = self.url.removesuffix("/openeo/1.2")
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{root}/.sandbox/{name}", data=content, method=method)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=_START_SECONDS) as response:  # noqa: S310 - our own server
            answer: dict[str, Any] = json.loads(response.read() or b"{}")
        return answer


def start(data: Path, *arguments: str) -> Sandbox:
    """Start a back-end and wait until it answers.

    Args:
        data: its folder.
        arguments: further arguments of `python -m sandbox`, like `--foreign-jobs 1000`.

    Raises:
        RuntimeError: when it does not come up.
    """
    data.mkdir(parents=True, exist_ok=True)
    ready = data / "ready.json"
    ready.unlink(missing_ok=True)
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "sandbox", "--data", str(data), "--ready-file", str(ready), *arguments]
    with (data / "server.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        )
    deadline = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise RuntimeError(f"The sandbox did not start:\n{(data / 'server.log').read_text()[-2000:]}")
        time.sleep(0.02)
    return Sandbox(json.loads(ready.read_text(encoding="utf-8"))["url"], process)


@contextlib.contextmanager
def running(data: Path, *arguments: str) -> Iterator[Sandbox]:
    """A back-end for the length of a block."""
    sandbox = start(data, *arguments)
    try:
        yield sandbox
    finally:
        sandbox.stop()
