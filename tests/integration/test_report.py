"""Report: what the store says of a campaign, for people and for programs."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from rich.console import Console

from campaign.tile import TileStatus
from producer import progress, report
from workers.finalize import finalize

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Fleet

S = TileStatus


def test_a_campaign_on_its_way(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=30.0)
    fleet.step("t0")
    fleet.step("t1")
    fleet.context.pauses.pause("local", 60, "payment: none left", what="starts")
    found = json.loads(json.dumps(report.status(fleet.store, fleet.meta)))
    assert found["by_status"] == {"not_started": 1, "queued": 2}
    limits = {"parallel_jobs": 2, "queued_jobs": 0, "prepared_jobs": 0}
    limits |= {"requests_per_second": None, "submissions_per_minute": None}
    backend = {"url": fleet.sandbox.url, "limits": limits, "most_jobs": 2, "started": 2, "ahead": 0, "waiting": 1}
    backend |= {"paused": "payment: none left", "stopped": None, "trouble": None, "jobs": {"queued": 2}}
    assert found["backends"] == {"local": backend}
    assert found["last_tick"] is None
    assert "no worker has been seen yet" in report.standing_still(fleet.store, fleet.store.counts(fleet.name))
    fleet.tick()
    assert report.status(fleet.store, fleet.meta)["last_tick"] < 5
    assert report.standing_still(fleet.store, fleet.store.counts(fleet.name)) == ""
    assert (found["campaign"], found["total"], found["file"]) == (fleet.name, 3, str(fleet.path))


def test_a_campaign_that_has_ended(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=2)
    fleet.finished("t0")
    fleet.step("t0")
    fleet.step("t0")
    fleet.start_with(lambda **_: 1 / 0)
    fleet.step("t1")
    finalize(fleet.context, fleet.name)
    console = Console(file=io.StringIO(), width=200)
    progress.watch(fleet.store, fleet.meta, lambda: None, console)
    assert f"{fleet.name}: 2/2 done (1 published, 1 failed)" in console.file.getvalue()  # type: ignore[attr-defined]
    lines = list(report.summary(fleet.store, fleet.meta))
    assert lines[:3] == [
        f"{fleet.name}: 1 of 2 tiles published",
        "  failed: 1",
        "    1 x submit, user_code: ZeroDivisionError: division by zero",
    ]
    assert "credits for 1 jobs" in lines[3]
    assert report.catalog_path(fleet.meta).exists()


def test_the_table_with_what_became_of_it(fleet: Fleet) -> None:
    fleet.finished("t1")
    frame = report.table(fleet.store, fleet.meta)
    assert list(frame.index) == [100, 101, 102]
    assert list(frame["status"]) == ["not_started", "finished", "not_started"]
    assert frame.loc[101, "id"] == fleet.tile("t1").job_id
    assert frame.crs == "EPSG:4326"


def test_one_tile(fleet: Fleet) -> None:
    fleet.start_with(lambda **_: 1 / 0)
    fleet.step("t0")
    text = report.one_tile(fleet.store, fleet.meta, "t0")
    assert "status: failed" in text
    assert "attempt 1, job - on local, submit (user_code):" in text
    assert "  ZeroDivisionError: division by zero" in text
