"""Jobs created ahead: as many as there is room for are started, some more wait for their turn, each job is made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from campaign.tile import Step, TileStatus
from workers.setbacks import claim
from workers.track import track

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign.message import Message
    from tests.integration.conftest import Fleet

S = TileStatus
ROOM = {"parallel_jobs": 2, "queued_jobs": 1, "prepared_jobs": 2, "poll_interval": 0.05}


def all_of(fleet: Fleet, messages: list[Message]) -> None:
    """Do what messages say, and what comes of it."""
    messages = list(messages)
    while messages:
        messages += fleet.do(messages.pop(0))


def submit_all(fleet: Fleet) -> None:
    """The messages of a campaign that was enqueued just now."""
    for tile in list(fleet.store.tiles(fleet.name, S.NOT_STARTED)):
        if fleet.tile(tile.id).status is S.NOT_STARTED:
            all_of(fleet, fleet.step(tile.id))


def where(fleet: Fleet) -> dict[str, str]:
    return {tile.id: tile.status.value for tile in fleet.store.tiles(fleet.name) if tile.status is not S.NOT_STARTED}


def end(fleet: Fleet, *tiles: str) -> list[Message]:
    """Have the running jobs end, those that are started later run on, and look."""
    fleet.sandbox.behave(parallel=8, job_seconds=0.05)
    for tile in tiles:
        fleet.job_is(tile, "finished")
    fleet.sandbox.behave(queue_seconds=60.0)
    return track(fleet.context, "local")


def ready(fleet: Fleet) -> list[str]:
    return [key.decode() for key in fleet.store.redis.zrange(fleet.store.key("b", "local", "ready"), 0, -1)]


@pytest.fixture
def full(make_fleet: Callable[..., Fleet]) -> Fleet:
    """Eight tiles: three started, two created, three waiting."""
    fleet = make_fleet(tiles=8, **ROOM)
    fleet.sandbox.behave(queue_seconds=60.0)
    submit_all(fleet)
    return fleet


def test_some_are_started_some_created_and_the_rest_waits(full: Fleet) -> None:
    assert where(full) == {"t0": "queued", "t1": "queued", "t2": "queued", "t3": "created", "t4": "created"}
    state = full.store.backend("local")
    assert (state.places, state.started, state.ready, state.waiting) == (5, 3, 2, 3)
    assert ready(full) == [f"{full.name}/t3", f"{full.name}/t4"]
    assert [full.jobs(name)[0]["status"] for name in ("t2", "t3")] == ["queued", "created"]
    assert [full.due_in(name) for name in ("t3", "t4", "t5")] == [None] * 3


def test_the_end_of_a_job_starts_one_created_ahead_and_prepares_another(full: Fleet) -> None:
    full.sandbox.behave(queue_seconds=0.0)
    first = full.tile("t0").job_id
    full.sandbox.clear_stats()
    messages = end(full, "t0", "t1", "t2")
    woken = [message.kwargs["tile"] for message in messages if message.task == Step.SUBMIT]
    assert woken == ["t3", "t4", "t5", "t6", "t7"]  # first those that have a job, in order
    all_of(full, [message for message in messages if message.task == Step.SUBMIT])
    assert {full.tile(name).status for name in ("t3", "t4", "t5")} == {S.QUEUED}
    assert {full.tile(name).status for name in ("t6", "t7")} == {S.CREATED}
    assert full.tile("t0").job_id == first
    assert [len(full.jobs(f"t{number}")) for number in range(8)] == [1] * 8
    requests = full.sandbox.stats()["requests"]
    assert requests["POST /jobs"] == 3
    assert requests["POST /jobs/{job}/results"] == 3


def test_messages_late_or_twice_start_nothing_beyond_the_room(full: Fleet) -> None:
    full.sandbox.clear_stats()
    before = [full.tile(f"t{number}") for number in range(8)]
    for _ in range(2):
        for name in ("t4", "t3", "t7"):
            assert full.step(name) == []
    assert [full.tile(f"t{number}") for number in range(8)] == before
    assert ready(full) == [f"{full.name}/t3", f"{full.name}/t4"]
    assert full.sandbox.stats()["requests"] == {}


def test_a_job_that_start_job_started_counts(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=4, parallel_jobs=2, prepared_jobs=1)
    fleet.sandbox.behave(queue_seconds=60.0)
    plain = fleet.context.hooks(fleet.meta).start_job

    def start_job(row: Any, **words: Any) -> Any:
        job = plain(row=row, **words)
        return job.start() if row.tile_id == "t0" else job

    fleet.start_with(start_job)
    submit_all(fleet)
    assert where(fleet) == {"t0": "queued", "t1": "queued", "t2": "created"}
    assert fleet.store.backend("local").started == 2
    requests = fleet.sandbox.stats()["requests"]
    assert requests["POST /jobs"] >= requests["POST /jobs/{job}/results"]


def test_two_campaigns_share_the_room(make_fleet: Callable[..., Fleet]) -> None:
    one, two = (make_fleet(tiles=4, parallel_jobs=2, prepared_jobs=1, poll_interval=0.05) for _ in range(2))
    one.sandbox.behave(queue_seconds=60.0)
    for number in range(4):
        for fleet in (one, two):
            fleet.step(f"t{number}")
    assert (where(one), where(two)) == ({"t0": "queued", "t1": "created"}, {"t0": "queued"})
    one.sandbox.behave(queue_seconds=0.0)
    messages = end(one, "t0")
    two.job_is("t0", "finished")
    all_of(one, [message for message in messages if message.task == Step.SUBMIT])
    all_of(one, [message for message in track(one.context, "local") if message.task == Step.SUBMIT])
    assert {one.tile("t1").status, two.tile("t1").status} == {S.QUEUED}
    assert {one.tile("t2").status, two.tile("t2").status} == {S.CREATED, S.NOT_STARTED}
    assert (one.store.backend("local").started, one.store.backend("local").places) == (2, 3)


@pytest.mark.parametrize("started", [False, True])
def test_a_worker_that_dies_between_created_and_start(full: Fleet, *, started: bool) -> None:
    full.sandbox.behave(queue_seconds=0.0)
    messages = end(full, "t0", "t1", "t2")
    full.sandbox.clear_stats()
    held = claim(full.context, full.tile("t3"), Step.SUBMIT, room="start")
    assert held.holder
    if started:
        full.context.connection("local").job(held.job_id).start()
    other = full.worker()
    all_of(full, [message for message in messages if message.kwargs.get("tile") == "t3"])
    assert full.tile("t3").holder == held.holder
    full.is_due("t3")
    full.tick()
    assert full.tile("t3").status is S.QUEUED
    assert full.do(next(message for message in messages if message.kwargs.get("tile") == "t3"), other) == []
    assert len(full.jobs("t3")) == 1
    assert full.store.backend("local").started == 2  # t4 is woken, t5 has no job yet
    assert full.sandbox.stats()["requests"]["POST /jobs/{job}/results"] == 1 + started


def test_a_tile_that_waits_for_its_start_can_be_canceled(full: Fleet) -> None:
    full.store.transition(full.tile("t3"), S.CANCELED, anyone=True, room="free")
    state = full.store.backend("local")
    assert (state.places, state.started, state.ready) == (4, 3, 1)
    assert ready(full) == [f"{full.name}/t4"]
    full.tick()
    assert where(full)["t5"] == "created"
    assert full.jobs("t3")[0]["status"] == "created"


def test_a_job_created_ahead_that_is_gone_is_another_attempt(full: Fleet) -> None:
    full.sandbox.behave(queue_seconds=0.0)
    full.context.connection("local").job(full.tile("t3").job_id).delete()
    messages = end(full, "t0", "t1", "t2")
    all_of(full, [message for message in messages if message.kwargs.get("tile") == "t3"])
    (entry,) = full.store.history(full.name, "t3")
    assert (entry["error_class"], entry["attempt"]) == ("job", 1)
    all_of(full, [message for message in messages if message.task == Step.SUBMIT])
    full.tick()
    assert f"{full.name}/t3" not in ready(full) or full.tile("t3").attempt == 2
    assert where(full).get("t3") in {None, "created", "queued"}
    assert full.store.backend("local").places == 5


def test_a_paused_campaign_starts_what_it_created_when_it_goes_on(full: Fleet) -> None:
    full.context.controls.put(full.name, paused="by the user")
    full.sandbox.behave(queue_seconds=0.0)
    all_of(full, [message for message in end(full, "t0", "t1", "t2") if message.task == Step.SUBMIT])
    assert (where(full)["t3"], where(full)["t4"]) == ("created", "created")
    assert full.step("t3") == []
    full.tick()
    assert full.store.backend("local").started == 0
    full.context.controls.put(full.name, paused="")
    full.tick()
    assert (where(full)["t3"], where(full)["t4"], where(full)["t5"]) == ("queued", "queued", "queued")
    assert len(full.jobs()) == 8
