"""Brings queued jobs into the back-end's slots and to their end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import shutil
import time
from typing import TYPE_CHECKING, Any

from sandbox.behaviour import unit
from sandbox.errors import OpenEOError
from sandbox.fates import CANCEL
from sandbox.memory import is_too_small

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.behaviour import Behaviour
    from sandbox.pool import Pool
    from sandbox.stats import Stats
    from sandbox.store import Job, Store

#: A title with this marker and a code makes the job fail with it.
FAIL_MARKER = "fail:"
_MESSAGES = {
    "OOM": "Your job failed because the executor used too much memory. Consider to increase executor-memoryOverhead.",
    "NoDataAvailable": "There is no data available for the given extents.",
    "Internal": "Exception during Spark execution: java.lang.IllegalStateException: simulated failure.",
}
#: Looking again at least this often, s: a changed behaviour may free slots.
_TICK = 1.0


class Runner:
    """The back-end's queue and slots."""

    def __init__(self, store: Store, pool: Pool, stats: Stats, folder: Path, slots: int) -> None:
        self._store, self._pool, self._stats = store, pool, stats
        self._folder, self._slots = folder, slots
        self._running: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self, behaviour: Behaviour) -> None:
        """Begin; jobs that were running when the back-end went down are queued again."""
        self.apply(behaviour)
        for job in self._store.by_status("running", -1):
            self._store.move(job.id, ["running"], "queued")
            self._store.log(job.id, "warning", "The back-end was restarted: the job runs again.")
        self._loop = asyncio.create_task(self._fill())

    def apply(self, behaviour: Behaviour) -> None:
        """Behave differently from now on."""
        if behaviour.fast:
            # Takes half a second: now rather than while the first job runs.
            importlib.import_module("sandbox.fast")
        self.behaviour = behaviour
        self._store.fates.script = behaviour.script
        self._wake.set()

    def begin_script(self) -> None:
        """Begin the script anew; for jobs that are queued or running, as if they were started now."""
        self._store.fates.forget()
        for status in ("queued", "running"):
            for job in self._store.by_status(status, -1):
                self._store.fates.plan(job, time.time())
        self._wake.set()

    def job_seconds(self, job: Job) -> float:
        """How long a job stays running at least."""
        scripted = self._store.fates.of(job).job_seconds
        return scripted if scripted >= 0 else self.behaviour.job_seconds

    @property
    def slots(self) -> int:
        """How many jobs may run at once."""
        return self.behaviour.parallel or self._slots

    def job_folder(self, job_id: str) -> Path:
        """Where a job's files lie."""
        return self._folder / job_id

    def queue(self, job: Job) -> bool:
        """Queue a job that is not queued or running; whether it was queued by this call."""
        now, wait = time.time(), self._store.fates.of(job).queue_seconds
        queued = self._store.move(
            job.id,
            ["created", "error", "canceled"],
            "queued",
            # A wait of its own moves the begin of the wait that all jobs have.
            queued_at=now if wait < 0 else now + wait - self.behaviour.queue_seconds,
            started_at=None,
            ended_at=None,
            outcome=None,
        )
        if queued:
            self._store.clear_logs(job.id)
            self._store.fates.plan(job, now)
            self._wake.set()
        return queued

    def cancel(self, job: Job, message: str = "The job was canceled.") -> None:
        """End a queued or running job; its executor is stopped."""
        if self._store.move(job.id, ["queued", "running"], "canceled", ended_at=time.time()):
            self._store.log(job.id, "info", message)
            if task := self._running.get(job.id):
                task.cancel()
            self._wake.set()

    def delete(self, job: Job) -> None:
        """Cancel a job and remove its files."""
        self.cancel(job)
        self._store.delete(job.id)
        shutil.rmtree(self.job_folder(job.id), ignore_errors=True)

    async def close(self) -> None:
        """Stop; what runs is queued again at the next start."""
        tasks = [*self._running.values(), *filter(None, [self._loop])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fill(self) -> None:
        while True:
            self._wake.clear()
            wait = min(self._operate(), self._start_due())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait)

    def _operate(self) -> float:
        """Cancel and delete what the script has the operator cancel and delete by now; seconds until the next."""
        while deadline := self._store.fates.next():
            job_id, at, deed = deadline
            if at > time.time():
                return at - time.time()
            self._store.fates.done(job_id, deed)
            job = self._store.find(job_id)
            if job is not None and deed == CANCEL:
                self.cancel(job, "The job was canceled by the operator of the back-end.")
            elif job is not None:
                self.delete(job)
        return _TICK

    def _start_due(self) -> float:
        """Start the jobs whose time has come; seconds until the next one's."""
        free = self.slots - len(self._running)
        if free <= 0:
            return _TICK
        for job in self._store.by_status("queued", free):
            due = (job.queued_at or 0.0) + self.behaviour.queue_seconds - time.time()
            if due > 0:
                return min(due, _TICK)
            if job.id not in self._running and self._store.move(job.id, ["queued"], "running", started_at=time.time()):
                self._stats.slot(+1)
                self._running[job.id] = task = asyncio.create_task(self._run(job))
                # Not at the end of the coroutine: one that is canceled before its first step never gets there.
                task.add_done_callback(functools.partial(self._ended, job.id))
        return _TICK

    async def _run(self, job: Job) -> None:
        started = time.monotonic()
        try:
            answer = await self._execute(job)
            await asyncio.sleep(max(0.0, self.job_seconds(job) - (time.monotonic() - started)))
            self._finish(job, answer)
        except OpenEOError as error:
            self._fail(job, error)
        except Exception as error:  # noqa: BLE001 - one job's failure must not stop the back-end
            self._fail(job, OpenEOError("Internal", f"The executor failed: {error!r}"))

    def _ended(self, job_id: str, _task: asyncio.Task[None]) -> None:
        """Give back the slot of a job."""
        self._running.pop(job_id, None)
        self._stats.slot(-1)
        self._wake.set()

    async def _execute(self, job: Job) -> dict[str, Any]:
        folder = self.job_folder(job.id)
        shutil.rmtree(folder, ignore_errors=True)
        self._store.log(job.id, "info", "The job has started.")
        if code := self._planned_failure(job):
            await asyncio.sleep(self.job_seconds(job))
            raise OpenEOError(code, _MESSAGES.get(code, f"The job failed: {code}."))
        if self.behaviour.fast:
            from sandbox.fast import execute_fast  # noqa: PLC0415 - only where it is wanted

            return execute_fast(job.process_graph, folder)
        return await self._pool.run(job.process_graph, folder)

    def _planned_failure(self, job: Job) -> str | None:
        if FAIL_MARKER in job.title:
            return job.title.split(FAIL_MARKER, 1)[1].split()[0]
        rule = self._store.fates.of(job)
        if rule.failure:
            return rule.failure
        if is_too_small(job.submission, rule.needs_memory or self.behaviour.needs_memory):
            return "OOM"
        drawn = unit(f"{self.behaviour.seed}:job:{job.seq}")
        return self.behaviour.failure if drawn < self.behaviour.failing_jobs else None

    def _finish(self, job: Job, answer: dict[str, Any]) -> None:
        outcome = {"files": answer["files"], **charge(answer["values"])}
        for file in answer["files"]:
            self._store.log(job.id, "info", f"Wrote {file['name']} ({file['size']} bytes).")
        self._store.log(job.id, "info", "The job has finished.")
        self._store.move(job.id, ["running"], "finished", ended_at=time.time(), outcome=outcome)

    def _fail(self, job: Job, error: OpenEOError) -> None:
        if self._store.move(job.id, ["running"], "error", ended_at=time.time()):
            self._store.log(job.id, "error", f"OpenEO batch job failed: {error.code}: {error.message}", error.code)


def charge(values: int) -> dict[str, Any]:
    """Costs (credits) and usage of a job from the number of values it read, the same for the same request.

    In the proportions of the Copernicus Data Space back-end: a few credits for a tile of 5 km and three months.
    """
    cpu = round(30.0 + values * 12e-6, 3)
    return {
        "costs": float(max(1, round(2 + values / 4e6))),
        "usage": {
            "cpu": {"value": cpu, "unit": "cpu-seconds"},
            "memory": {"value": round(cpu * 3900.0, 3), "unit": "mb-seconds"},
            "duration": {"value": round(40 + values * 6e-6), "unit": "seconds"},
            "input_pixel": {"value": round(values / (1 << 20), 3), "unit": "mega-pixel"},
        },
    }
