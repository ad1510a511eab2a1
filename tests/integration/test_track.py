"""track: tiles follow their jobs, many by one look; nothing is lost when the back-end is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from campaign.tile import Step, TileStatus
from workers.connection import FleetConnection
from workers.track import SLOWEST, track

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Fleet

S = TileStatus
GRAPH: dict[str, Any] = {"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}


def look(fleet: Fleet) -> list[tuple[str, str]]:
    """One look; step and tile of the messages."""
    return [(message.task, message.kwargs["tile"]) for message in track(fleet.context, "local")]


def slots(fleet: Fleet) -> set[str]:
    return {tile.id for tile in fleet.context.store.tiles_on("local")}


def failing(fleet: Fleet, code: str) -> None:
    """Jobs from now on fail with `code`."""
    fleet.start_with(lambda connection, **_: connection.create_job(GRAPH, title=f"fail:{code}"))


def fail_once(fleet: Fleet) -> None:
    """One more attempt of t0 comes to nothing."""
    fleet.step("t0")
    fleet.job_is("t0", "error")
    look(fleet)


def next_look(fleet: Fleet) -> float:
    """Seconds until the back-end is looked at again."""
    at = fleet.store.redis.hget(fleet.store.key("b", "local"), "track_at")
    return float(at or 0) - fleet.store.now()


def test_a_tile_follows_its_job(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=30.0)
    fleet.step("t0")
    assert look(fleet) == [(Step.SUBMIT, "t1")]
    assert fleet.tile("t0").status is S.QUEUED
    fleet.sandbox.behave(queue_seconds=0.0, job_seconds=0.5)
    fleet.job_is("t0", "running")
    assert look(fleet) == []
    assert fleet.tile("t0").status is S.RUNNING
    fleet.job_is("t0", "finished")
    assert look(fleet) == [(Step.SUBMIT, "t2"), (Step.POSTPROCESS, "t0")]
    tile = fleet.tile("t0")
    assert tile.status is S.FINISHED
    assert tile.started_at < tile.finished_at
    assert slots(fleet) == {"t1", "t2"}
    due = fleet.due_in("t0")
    assert due is not None
    assert 25 < due <= 30


def test_a_finished_tile_is_told_of_once(fleet: Fleet) -> None:
    fleet.step("t0")
    fleet.job_is("t0", "finished")
    assert (Step.POSTPROCESS, "t0") in look(fleet)
    assert look(fleet) == []


def test_many_tiles_take_one_request(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=8, parallel_jobs=8)
    fleet.sandbox.behave(queue_seconds=30.0)
    for number in range(8):
        fleet.step(f"t{number}")
    fleet.sandbox.clear_stats()
    look(fleet)
    assert fleet.sandbox.stats()["requests"] == {"GET /jobs": 1}


def test_a_failed_job_gets_other_attempts_and_then_the_tile_fails(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=1, max_attempts=2)
    failing(fleet, "OOM")
    fail_once(fleet)
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.job_id, tile.error_class) == (S.NOT_STARTED, 1, "", "resources")
    assert "too much memory" in tile.error
    fail_once(fleet)
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.failed_step, tile.error_class) == (S.FAILED, 2, "track", "resources")
    assert tile.job_id == fleet.jobs("t0")[0]["id"]
    assert slots(fleet) == set()
    first, second = fleet.store.history(fleet.name, "t0")
    assert [first["attempt"], second["attempt"]] == [1, 2]
    assert first["job_id"] == fleet.jobs("t0")[1]["id"]
    assert "too much memory" in first["error"]
    assert len(fleet.jobs("t0")) == 2


@pytest.mark.parametrize("charged", [7.5, None])
def test_what_failed_attempts_cost_is_kept(make_fleet: Callable[..., Fleet], charged: float | None) -> None:
    fleet = make_fleet(tiles=1, max_attempts=3)
    describe = FleetConnection.job

    def charging(connection: Any, job_id: str) -> Any:
        job = describe(connection, job_id)
        known = job.describe()
        job.describe = lambda: known | ({} if charged is None else {"costs": charged})
        return job

    failing(fleet, "OOM")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FleetConnection, "job", charging)
        for attempts in (1, 2):
            fail_once(fleet)
            tile = fleet.tile("t0")
            assert (tile.attempt, tile.spent, tile.costs) == (attempts, attempts * (charged or 0.0), None)
        fail_once(fleet)
    tile = fleet.tile("t0")
    assert (tile.status, tile.spent, tile.costs) == (S.FAILED, 2 * (charged or 0.0), charged)
    assert [entry.get("costs") for entry in fleet.store.history(fleet.name, "t0")[:2]] == [charged, charged]


def test_attempts_before_a_retry_do_not_count(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=1, max_attempts=1)
    failing(fleet, "OOM")
    tile = fleet.tile("t0")
    fleet.store.transition(tile, S.NOT_STARTED, attempt=4, attempts_before=4)
    fail_once(fleet)
    assert (fleet.tile("t0").status, fleet.tile("t0").attempt) == (S.FAILED, 5)


def test_no_data_is_not_asked_for_again(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=1)
    failing(fleet, "NoDataAvailable")
    fail_once(fleet)
    tile = fleet.tile("t0")
    assert (tile.status, tile.error_class, tile.attempt) == (S.FAILED, "data", 1)
    assert "no data available" in tile.error
    assert len(fleet.jobs("t0")) == 1


def test_a_job_canceled_by_somebody_else(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=30.0)
    fleet.step("t0")
    fleet.context.connection("local").job(fleet.tile("t0").job_id).stop()
    look(fleet)
    tile = fleet.tile("t0")
    assert (tile.status, tile.error) == (S.CANCELED, "canceled on the back-end")
    assert "t0" not in slots(fleet)


def test_a_job_deleted_by_somebody_else_is_another_attempt(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=30.0)
    fleet.step("t0")
    job_id = fleet.tile("t0").job_id
    fleet.context.connection("local").job(job_id).delete()
    look(fleet)
    tile = fleet.tile("t0")
    assert (tile.status, tile.error_class, tile.attempt) == (S.NOT_STARTED, "job", 1)
    assert f"job {job_id} is not on the back-end any more" in tile.error


def test_unknown_job_logs_do_not_disturb(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=30.0, unknown_job_logs=True)
    fleet.step("t0")
    fleet.context.connection("local").job(fleet.tile("t0").job_id).delete()
    look(fleet)
    assert fleet.tile("t0").error_class == "job"


@pytest.mark.parametrize("ignore_limit", [False, True])
def test_jobs_behind_pages_of_foreign_ones_are_found(fleet: Fleet, *, ignore_limit: bool) -> None:
    fleet.step("t0")
    connection = fleet.context.connection("local")
    for number in range(101):
        connection.create_job(GRAPH, title=f"foreign {number}")
    fleet.sandbox.behave(ignore_limit=ignore_limit)
    fleet.sandbox.clear_stats()
    look(fleet)
    assert fleet.tile("t0").status is S.FINISHED
    described = {} if ignore_limit else {"GET /jobs/{job}": 1}
    assert fleet.sandbox.stats()["requests"] == {"GET /jobs": 1} | described


def test_jobs_behind_very_many_foreign_ones_are_described_one_by_one(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.track.MAX_PAGES", 1)
    fleet.step("t0")
    connection = fleet.context.connection("local")
    for number in range(101):
        connection.create_job(GRAPH, title=f"foreign {number}")
    fleet.sandbox.clear_stats()
    look(fleet)
    assert fleet.tile("t0").status is S.FINISHED
    assert sorted(fleet.sandbox.stats()["requests"].values()) == [1, 1]


DOWN: dict[str, dict[str, Any]] = {
    "500": {"server_errors": 1.0, "server_error_status": 500},
    "502": {"server_errors": 1.0, "server_error_status": 502},
    "503": {"server_errors": 1.0},
    "429": {"rate_limit": 0.001},
}


@pytest.mark.parametrize("name", DOWN)
def test_a_back_end_in_trouble_moves_nothing(fleet: Fleet, name: str) -> None:
    fleet.step("t0")
    before = fleet.tile("t0")
    fleet.job_is("t0", "finished")
    fleet.sandbox.behave(**DOWN[name])
    requests.get(fleet.sandbox.url, timeout=10)  # the one request that the rate limit allows
    woken = look(fleet)
    assert fleet.tile("t0") == before
    state = fleet.store.backend("local")
    assert state.paused is (name in {"503", "429"})
    assert woken == ([] if state.paused else [(Step.SUBMIT, "t1")])
    assert state.trouble
    fleet.sandbox.reset(fast=True)
    if state.paused:
        fleet.sandbox.clear_stats()
        assert look(fleet) == []
        assert fleet.sandbox.stats()["requests"] == {}
        fleet.unpause()
    look(fleet)
    assert fleet.tile("t0").status is S.FINISHED
    assert fleet.store.backend("local").trouble == ""


def test_a_pause_is_as_long_as_the_back_end_says(fleet: Fleet) -> None:
    fleet.step("t0")
    fleet.sandbox.behave(server_errors=1.0, retry_after=90)
    look(fleet)
    state = fleet.store.backend("local")
    assert state.paused_until - fleet.store.now() == pytest.approx(90, abs=2)
    assert state.paused_reason.startswith("capacity: ")


def test_jobs_are_followed_while_credits_are_missing(fleet: Fleet) -> None:
    fleet.step("t0")
    fleet.job_is("t0", "finished")
    fleet.context.pauses.pause("local", 600, "payment: none left", what="starts")
    assert look(fleet) == [(Step.POSTPROCESS, "t0")]


def test_looks_that_go_unanswered_are_an_outage_until_one_is(fleet: Fleet) -> None:
    fleet.step("t0")
    fleet.job_is("t0", "finished")
    pauses = []
    for _ in range(4):
        with fleet.away():
            look(fleet)
        state = fleet.store.backend("local")
        pauses.append(state.paused_until - fleet.store.now() if state.paused else 0.0)
        fleet.unpause()
    assert pauses == pytest.approx([0, 0, 5, 10], abs=1)
    look(fleet)
    assert fleet.tile("t0").status is S.FINISHED
    assert fleet.context.pauses.outage("local", "outage: again") == 0


def test_a_back_end_that_is_gone_moves_nothing(fleet: Fleet) -> None:
    fleet.step("t0")
    before = fleet.tile("t0")
    fleet.moves_to("http://127.0.0.1:9/openeo/1.2")
    look(fleet)
    assert fleet.tile("t0") == before
    fleet.moves_to(fleet.sandbox.url)
    fleet.job_is("t0", "finished")
    look(fleet)
    assert fleet.tile("t0").status is S.FINISHED


def test_one_tracker_at_a_time(fleet: Fleet) -> None:
    fleet.step("t0")
    fleet.job_is("t0", "finished")
    with fleet.worker().limits.tracking("local") as mine:
        assert mine
        assert look(fleet) == []
    assert fleet.tile("t0").status is S.QUEUED
    assert (Step.POSTPROCESS, "t0") in look(fleet)


def test_a_trackers_lease_ends_with_it(fleet: Fleet) -> None:
    fleet.store.redis.set(fleet.store.key("b", "local", "tracker"), "dead", px=50)
    fleet.step("t0")
    fleet.job_is("t0", "finished")
    time.sleep(0.06)
    assert look(fleet)


def test_room_is_given_back_once(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=4)
    fleet.step("t0")
    fleet.step("t1")
    fleet.job_is("t0", "finished")
    fleet.job_is("t1", "finished")
    messages = look(fleet) + look(fleet)
    assert sorted(messages) == [
        (Step.POSTPROCESS, "t0"),
        (Step.POSTPROCESS, "t1"),
        (Step.SUBMIT, "t2"),
        (Step.SUBMIT, "t3"),
    ]
    assert slots(fleet) == {"t2", "t3"}
    assert fleet.store.backend("local").places == 2


def test_a_job_that_one_answer_does_not_tell_of_holds_up_nobody(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list leaves both out; one can be described, the other not now."""
    fleet.step("t0")
    fleet.step("t1")
    fleet.job_is("t0", "finished")
    fleet.job_is("t1", "finished")
    broken, describe = fleet.tile("t0").job_id, FleetConnection.job

    def job(connection: Any, job_id: str) -> Any:
        if job_id == broken:
            raise requests.ReadTimeout("slow")
        return describe(connection, job_id)

    monkeypatch.setattr("workers.backend.job_pages", lambda *_: iter([[]]))
    monkeypatch.setattr(FleetConnection, "job", job)
    look(fleet)
    assert (fleet.tile("t0").status, fleet.tile("t1").status) == (S.QUEUED, S.FINISHED)


def test_a_job_that_was_started_and_is_not_is_started_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The back-end took the request, answered, and forgot about it."""
    with monkeypatch.context() as patch:
        patch.setattr("workers.backend.start", lambda *_: None)
        fleet.step("t0")
    assert fleet.jobs("t0")[0]["status"] == "created"
    look(fleet)
    assert fleet.jobs("t0")[0]["status"] == "created"
    monkeypatch.setattr("workers.track.NOT_STARTED_AFTER", 0.0)
    look(fleet)
    fleet.job_is("t0", "finished")


def test_a_slot_that_nobody_needs_is_given_back(fleet: Fleet) -> None:
    done = fleet.finished("t0")
    fleet.store.redis.sadd(fleet.store.key("b", "local", "slots"), done.key)
    look(fleet)
    assert "t0" not in slots(fleet)


def test_a_tile_canceled_while_it_is_looked_at_stays_canceled(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.step("t0")
    fleet.job_is("t0", "finished")
    tile = fleet.tile("t0")
    monkeypatch.setattr(fleet.context.store, "tiles_on", lambda _: [tile])
    fleet.store.transition(tile, S.CANCELED, anyone=True, room="free")
    assert (Step.POSTPROCESS, "t0") not in look(fleet)
    assert fleet.tile("t0").status is S.CANCELED


def test_the_interval_grows_while_nothing_moves(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=60.0)
    fleet.step("t0")
    assert next_look(fleet) <= 0
    waits = []
    for _ in range(12):
        look(fleet)
        waits.append(next_look(fleet))
    assert waits[:3] == pytest.approx([1.2, 1.44, 1.728], abs=0.2)
    assert waits[:9] == sorted(waits[:9])
    assert waits[-1] == pytest.approx(SLOWEST, abs=0.2)
    fleet.sandbox.behave(queue_seconds=0.0)
    fleet.job_is("t0", "finished")
    look(fleet)
    assert next_look(fleet) == pytest.approx(1.0, abs=0.2)


def test_the_logs_that_cannot_be_had_do_not_stop_the_tracker(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(fleet, "OOM")
    fleet.step("t0")
    fleet.job_is("t0", "error")
    seen = fleet.context.connection("local").list_jobs()
    monkeypatch.setattr("workers.backend.job_pages", lambda *_: iter([list(seen)]))
    fleet.sandbox.behave(server_errors=1.0, server_error_status=500)
    look(fleet)
    tile = fleet.tile("t0")
    assert (tile.status, tile.error) == (S.NOT_STARTED, "the back-end gave no reason")


def test_a_job_that_its_tile_does_not_own_is_ended_on_the_way(fleet: Fleet) -> None:
    """A worker that was cut off, and came back when another one had taken over, made a second one."""
    fleet.sandbox.behave(job_seconds=30.0)
    fleet.step("t0")
    fleet.step("t1")
    tile, connection = fleet.tile("t0"), fleet.context.connection("local")
    mark = tile.marker(fleet.meta.run)
    idle = connection.create_job(GRAPH, title=f"twin {mark}").job_id
    busy = connection.create_job(GRAPH, title=f"busy twin {mark}")
    busy.start()
    stranger = connection.create_job(GRAPH, title=f"of another fleet {tile.marker('0badcafe')}").job_id
    look(fleet)
    states = {job["id"]: job["status"] for job in fleet.jobs("t0")}
    assert idle not in states
    assert states[busy.job_id] == "canceled"
    assert states[stranger] == "created"
    assert states[tile.job_id] in {"queued", "running"}
