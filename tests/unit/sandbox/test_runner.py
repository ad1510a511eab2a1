"""The back-end's queue and slots."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sandbox.behaviour import Behaviour
from sandbox.pool import Pool
from sandbox.runner import Runner
from sandbox.stats import Stats
from sandbox.store import Store

if TYPE_CHECKING:
    from pathlib import Path


def test_a_job_that_is_canceled_before_its_first_step_gives_its_slot_back(tmp_path: Path) -> None:
    async def run() -> None:
        store, stats = Store(tmp_path / "jobs.sqlite"), Stats()
        runner = Runner(store, Pool(0, None, tmp_path / "log"), stats, tmp_path / "jobs", 1)
        runner.apply(Behaviour(fast=True))
        job = store.create("demo", {"process": {"process_graph": {}}})
        assert runner.queue(job)
        runner._start_due()
        assert stats.to_dict(1)["slots"]["busy"] == 1
        runner.cancel(job)
        await asyncio.sleep(0.05)
        assert stats.to_dict(1)["slots"]["busy"] == 0
        assert runner.queue(job)
        runner._start_due()
        assert store.get("demo", job.id).status == "running"
        await runner.close()
        store.close()

    asyncio.run(run())
