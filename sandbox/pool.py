"""The pool of executor processes: started once, kept warm, one killed and replaced when its job is canceled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from sandbox.errors import OpenEOError

_ROOT = Path(__file__).resolve().parent.parent
#: A line of an executor may list many files.
_LINE_LIMIT = 64 * 1024 * 1024
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "GDAL_NUM_THREADS")


class Executor:
    """One executor process and the pipes to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, scenes: str | None, log: Path) -> Executor:
        """Start a process; it warms up by itself."""
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **dict.fromkeys(_THREAD_SETTINGS, "1")}
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sandbox.executor",
                *([scenes] if scenes else []),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=environment,
                limit=_LINE_LIMIT,
                start_new_session=True,
            )
        return cls(process)

    async def read(self) -> dict[str, Any]:
        """The next line the process answers.

        Raises:
            OpenEOError: OOM when the process is gone, as that is how the kernel ends it.
        """
        assert self.process.stdout is not None  # noqa: S101 - started with a pipe
        line = await self.process.stdout.readline()
        if not line:
            raise OpenEOError(
                "OOM", "Your job failed because its executor was lost; this often means too little memory."
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def ask(self, content: dict[str, Any]) -> dict[str, Any]:
        """Send one job and wait for its answer."""
        assert self.process.stdin is not None  # noqa: S101 - started with a pipe
        self.process.stdin.write(json.dumps(content).encode() + b"\n")
        await self.process.stdin.drain()
        return await self.read()

    async def stop(self) -> None:
        """End the process now."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Pool:
    """`size` executors; `run` takes a free one.

    Attributes:
        processes: ids of the processes that execute; set when the first executor is warm.
        warm: set from then on.
    """

    def __init__(self, size: int, scenes: str | None, log: Path) -> None:
        self._size, self._scenes, self._log = size, scenes, log
        self._free: asyncio.Queue[Executor] = asyncio.Queue()
        self._all: set[Executor] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.processes: list[str] = []
        self.warm = asyncio.Event()

    def start(self) -> None:
        """Start the executors in the background."""
        for _ in range(self._size):
            self._later()

    async def run(self, graph: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Execute one graph; if this call is canceled, the executor is killed and replaced.

        Raises:
            OpenEOError: as the graph or the executor's end has it.
        """
        executor = await self._free.get()
        answer = None
        try:
            answer = await executor.ask({"graph": graph, "folder": str(folder)})
        finally:
            if answer is None:
                await self._replace(executor)
            else:
                self._free.put_nowait(executor)
        if "error" in answer:
            raise OpenEOError(answer["error"]["code"], answer["error"]["message"])
        return answer

    def closing(self) -> None:
        """Start no executors any more."""
        self._closed = True

    async def close(self) -> None:
        """End every executor."""
        self.closing()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(executor.stop() for executor in self._all))

    def _later(self) -> None:
        task = asyncio.create_task(self._add())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add(self) -> None:
        executor = await Executor.start(self._scenes, self._log)
        self._all.add(executor)
        try:
            self.processes = (await executor.read())["processes"]
        except OpenEOError:
            sys.stderr.write(f"An executor of the sandbox did not start; see {self._log}\n")
            return
        self.warm.set()
        self._free.put_nowait(executor)

    async def _replace(self, executor: Executor) -> None:
        self._all.discard(executor)
        if not self._closed:
            self._later()
        await executor.stop()
