"""Thousands of other jobs of the same user do not make tracking slower, or ask more of the back-end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from campaign.tile import TileStatus
from sandbox.spawn import Sandbox, running
from workers.track import DESCRIBED, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.conftest import Fleet

S = TileStatus
FOREIGN = 20_000


@pytest.fixture(scope="module")
def fast_sandbox(sandbox_data: Path) -> Iterator[Sandbox]:
    """A back-end that has many finished jobs of the same user already."""
    words = ("--user", "demo:demo", "--foreign-jobs", str(FOREIGN), "--behaviour", "fast=1")
    with running(sandbox_data, "--executors", "1", "--parallel", "8", *words) as started:
        yield started


def requests_of_a_look(fleet: Fleet) -> dict[str, int]:
    fleet.sandbox.clear_stats()
    track(fleet.context, "local")
    found: dict[str, int] = fleet.sandbox.stats()["requests"]
    return found


def test_older_jobs_of_others_cost_nothing(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=4, parallel_jobs=4)
    fleet.sandbox.behave(job_seconds=30.0)
    for number in range(4):
        fleet.step(f"t{number}")
    assert fleet.sandbox.stats()["jobs"]["finished"] >= FOREIGN
    for _ in range(3):
        assert requests_of_a_look(fleet) == {"GET /jobs": 1}
    assert {tile.status for tile in fleet.store.tiles(fleet.name)} <= {S.QUEUED, S.RUNNING}


def test_newer_jobs_of_others_cost_one_page_and_few_descriptions(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=2, parallel_jobs=2)
    fleet.sandbox.behave(job_seconds=30.0)
    fleet.step("t0")
    fleet.step("t1")
    fleet.sandbox.add_jobs(FOREIGN, status="finished")
    found = requests_of_a_look(fleet)
    assert found == {"GET /jobs": 1, "GET /jobs/{job}": 2}
    assert found["GET /jobs/{job}"] <= DESCRIBED


@pytest.mark.parametrize("behaviour", [{"ignore_limit": True}, {"oldest_first": True}])
def test_lists_in_other_forms(make_fleet: Callable[..., Fleet], behaviour: dict[str, Any]) -> None:
    fleet = make_fleet(tiles=2, parallel_jobs=2)
    fleet.step("t0")
    fleet.job_is("t0", "finished")
    fleet.sandbox.behave(**behaviour)
    found = requests_of_a_look(fleet)
    assert found["GET /jobs"] == 1
    assert fleet.tile("t0").status is S.FINISHED
