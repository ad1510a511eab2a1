"""submit: from a tile that has room to a started job, never to a second one, whatever happens in between."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import requests
import shapely

from campaign.errors import StoreUnavailable, TransitionLost
from campaign.failure import ErrorClass
from campaign.spec import load_campaign
from campaign.tile import Step, TileStatus
from producer.enqueue import enqueue
from workers import backend, setbacks
from workers.submit import submit
from workers.tick import tick

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from openeo.rest.job import BatchJob

    from campaign.tile import Tile
    from tests.integration.conftest import Fleet
    from workers.context import Context

S = TileStatus
GRAPH: dict[str, Any] = {"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}


def slots(fleet: Fleet) -> set[str]:
    return {tile.id for tile in fleet.context.store.tiles_on("local")}


def create(connection: Any, title: str = "test") -> BatchJob:
    job: BatchJob = connection.create_job(GRAPH, title=title)
    return job


def marker(fleet: Fleet, tile: Tile) -> str:
    return tile.marker(fleet.meta.run)


def claimed_by_the_dead(fleet: Fleet, tile_id: str = "t0", *, sent: float | None = 0.0) -> Tile:
    """A tile whose worker is gone, its lease over.

    Args:
        fleet: whose.
        tile_id: which.
        sent: how many seconds ago the worker said that it asks for a job; None: it never did.
    """
    tile, now = fleet.tile(tile_id), fleet.store.now()
    moments = {"submitted_at": now, "sent_at": 0.0 if sent is None else now - sent}
    dead = fleet.store.claim(tile, 0.01, S.SUBMITTING, room="take", backends=["local"], attempt=1, **moments)
    time.sleep(0.02)
    return dead


# What goes well


def test_one_job_is_created_marked_and_started(fleet: Fleet) -> None:
    assert fleet.step("t0") == []
    tile = fleet.tile("t0")
    (job,) = fleet.jobs()
    assert (tile.status, tile.job_id, tile.backend, tile.attempt) == (S.QUEUED, job["id"], "local", 1)
    assert job["title"] == f"100 [fleet:{fleet.name}/t0/1 {fleet.meta.run}]" == f"100 {marker(fleet, tile)}"
    assert job["status"] != "created"
    assert tile.holder == ""
    assert (tile.tries, tile.error) == (0, "")
    assert tile.submitted_at <= tile.sent_at <= tile.started_at <= fleet.store.now()
    assert slots(fleet) == {"t0"}


def test_start_job_is_called_as_the_job_manager_calls_it(fleet: Fleet) -> None:
    calls: list[dict[str, Any]] = []

    def start_job(**words: Any) -> BatchJob:
        calls.append(words)
        return create(words["connection"])

    fleet.start_with(start_job)
    fleet.step("t1")
    (words,) = calls
    assert set(words) == {"row", "connection", "connection_provider", "provider"}
    row = words["row"]
    assert isinstance(row, pd.Series)
    assert row.name == 101
    assert isinstance(row.geometry, shapely.Polygon)
    assert row.geometry.bounds == pytest.approx((4.1, 51, 4.2, 51.1))
    assert (row["number"], type(row["number"]).__name__.startswith("int")) == (1, True)
    assert (row["tile_id"], row["backend_name"], row["id"]) == ("t1", "local", None)
    assert row["status"] in {"not_started", "submitting"}
    assert words["provider"] == "local"
    assert words["connection_provider"]("local") is words["connection"]
    assert words["connection"].root_url == fleet.sandbox.url


def test_a_second_delivery_does_nothing(fleet: Fleet) -> None:
    stale = fleet.tile("t0")
    submit(fleet.context, stale)
    with pytest.raises(TransitionLost):
        submit(fleet.context, stale)
    assert len(fleet.jobs()) == 1


def test_two_workers_at_once_make_one_job(fleet: Fleet) -> None:
    other, tile = fleet.worker(), fleet.tile("t0")
    lost = []

    def race(context: Context) -> None:
        try:
            submit(context, tile)
        except TransitionLost as error:
            lost.append(error)

    threads = [threading.Thread(target=race, args=(context,)) for context in (fleet.context, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 1
    assert len(fleet.jobs()) == 1
    assert fleet.tile("t0").status is S.QUEUED


def test_start_job_may_start_the_job_itself(fleet: Fleet) -> None:
    fleet.start_with(lambda connection, **_: create(connection).start())
    fleet.context.connection("local")
    fleet.sandbox.clear_stats()
    fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    requests_made = fleet.sandbox.stats()["requests"]
    assert [requests_made[kind] for kind in requests_made if kind.startswith("POST")] == [1, 1]


# What start_job does wrong


def test_none_skips_the_tile_and_frees_its_room(fleet: Fleet) -> None:
    fleet.start_with(lambda **_: None)
    messages = fleet.step("t0")
    assert fleet.tile("t0").status is S.SKIPPED
    assert fleet.jobs() == []
    assert [message.kwargs["tile"] for message in messages] == ["t1", "t2"]
    assert slots(fleet) == {"t1", "t2"}


def boom(**_: Any) -> None:
    raise ZeroDivisionError("what the user wrote")


def test_an_exception_fails_the_tile_with_its_traceback(fleet: Fleet) -> None:
    fleet.start_with(boom)
    messages = fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.failed_step, tile.error_class) == (S.FAILED, "submit", "user_code")
    assert "ZeroDivisionError: what the user wrote" in tile.error
    assert "in boom" in tile.error
    assert slots(fleet) == {"t1", "t2"}
    assert [message.task for message in messages] == [Step.SUBMIT, Step.SUBMIT]
    (entry,) = fleet.store.history(fleet.name, "t0")
    assert (entry["attempt"], entry["step"], entry["backend"]) == (1, "submit", "local")
    assert entry["error"] == tile.error


def test_sys_exit_in_start_job_fails_the_tile_only(fleet: Fleet) -> None:
    def leave(**_: Any) -> None:
        raise SystemExit(3)

    fleet.start_with(leave)
    fleet.step("t0")
    assert fleet.tile("t0").status is S.FAILED


@pytest.mark.parametrize("answer", ["j-1", 7, {"id": "j"}, False, 0, ""])
def test_something_that_is_no_job_fails_the_tile(fleet: Fleet, answer: Any) -> None:
    fleet.start_with(lambda **_: answer)
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.error_class) == (S.FAILED, "user_code")
    assert f"start_job returned {type(answer).__name__}" in tile.error
    assert "t0" not in slots(fleet)


def test_a_job_that_was_not_created_now_fails_the_tile(fleet: Fleet) -> None:
    fleet.start_with(lambda connection, **_: connection.job("j-of-yesterday"))
    fleet.step("t0")
    assert fleet.tile("t0").status is S.FAILED
    assert "the one job that it created" in fleet.tile("t0").error


def test_a_second_job_is_refused_before_it_is_created(fleet: Fleet) -> None:
    def two(connection: Any, **_: Any) -> BatchJob:
        create(connection, "first")
        return create(connection, "second")

    fleet.start_with(two)
    fleet.step("t0")
    (job,) = fleet.jobs()
    tile = fleet.tile("t0")
    assert job["title"].startswith("first")
    assert job["status"] == "created"
    assert (tile.status, tile.job_id) == (S.FAILED, job["id"])
    assert "more than one job" in tile.error
    assert "t0" not in slots(fleet)


def test_raising_after_the_job_was_created_keeps_it_known_and_unstarted(fleet: Fleet) -> None:
    def late(connection: Any, **_: Any) -> None:
        create(connection)
        raise KeyError("too late")

    fleet.start_with(late)
    fleet.step("t0")
    (job,) = fleet.jobs()
    tile = fleet.tile("t0")
    assert (tile.status, tile.job_id, tile.failed_step) == (S.FAILED, job["id"], "submit")
    assert job["status"] == "created"
    assert "KeyError: 'too late'" in tile.error
    assert "t0" not in slots(fleet)


def test_a_job_created_and_not_returned_fails_the_tile(fleet: Fleet) -> None:
    def forgetful(connection: Any, **_: Any) -> None:
        create(connection)

    fleet.start_with(forgetful)
    fleet.step("t0")
    assert fleet.tile("t0").status is S.FAILED
    assert len(fleet.jobs()) == 1


def test_a_job_on_another_back_end_fails_the_tile(make_fleet: Callable[..., Fleet], fast_sandbox: Any) -> None:
    backends = [
        {"name": name, "url": fast_sandbox.url, "auth": "basic", "parallel_jobs": 1, "prepared_jobs": 0}
        for name in ("local", "second")
    ]
    fleet = make_fleet(backends=backends)

    def elsewhere(connection_provider: Any, provider: str, **_: Any) -> BatchJob:
        return create(connection_provider({"local": "second", "second": "local"}[provider]))

    fleet.start_with(elsewhere)
    fleet.step("t0")
    assert fleet.tile("t0").status is S.FAILED
    assert "on the connection given" in fleet.tile("t0").error


# Intent before effect


def test_a_lost_answer_leaves_the_tile_submitting_and_its_job_is_found(fleet: Fleet) -> None:
    fleet.sandbox.behave(lost_answers=1.0)
    fleet.step("t0")
    lost = fleet.tile("t0")
    assert (lost.status, lost.job_id, lost.attempt, lost.holder) == (S.SUBMITTING, "", 1, "")
    assert (lost.error_class, lost.tries) == ("outage", 1)
    assert "t0" in slots(fleet)
    (job,) = fleet.jobs()
    assert lost.sent_at >= lost.submitted_at > 0
    due = fleet.due_in("t0")
    assert due is not None
    assert 0.5 < due <= 2
    fleet.sandbox.behave(lost_answers=0.0)
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.job_id, tile.attempt) == (S.QUEUED, job["id"], 1)
    assert (tile.tries, tile.error) == (0, "")
    assert len(fleet.jobs()) == 1


def test_an_answer_lost_on_the_way_up_makes_one_job_in_the_end(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was created: after a while that is certain, and a job is created under the same marker."""
    fleet.context.connection("local")
    fleet.sandbox.behave(server_errors=1.0, server_error_status=502)
    fleet.step("t0")
    fleet.sandbox.behave(server_errors=0.0)
    before = fleet.tile("t0")
    assert (before.status, before.error_class, fleet.jobs()) == (S.SUBMITTING, "outage", [])
    for _ in range(3):
        fleet.is_due("t0")
        fleet.step("t0")
        tile = fleet.tile("t0")
        assert (tile.status, tile.job_id, tile.tries, tile.holder) == (S.SUBMITTING, "", before.tries, "")
        due = fleet.due_in("t0")
        assert due is not None
        assert 5 < due <= 10
    assert fleet.jobs() == []
    monkeypatch.setattr("workers.submit.SETTLED_AFTER", 0.0)
    fleet.is_due("t0")
    fleet.step("t0")
    (job,) = fleet.jobs()
    tile = fleet.tile("t0")
    assert (tile.job_id, tile.status, tile.attempt) == (job["id"], S.QUEUED, 1)
    assert marker(fleet, tile) in job["title"]


def test_a_job_that_comes_into_being_late_is_taken(fleet: Fleet) -> None:
    """The back-end worked on while nobody heard of it: its list has the job only some time later."""
    dead = claimed_by_the_dead(fleet)
    fleet.start_with(boom)
    fleet.step("t0")
    assert fleet.tile("t0").status is S.SUBMITTING
    job = fleet.context.connection("local").create_job(GRAPH, title=f"x {marker(fleet, dead)}")
    fleet.is_due("t0")
    fleet.step("t0")
    assert (fleet.tile("t0").status, fleet.tile("t0").job_id) == (S.QUEUED, job.job_id)


def test_the_tick_finds_a_lost_job_when_its_wait_is_over(fleet: Fleet) -> None:
    fleet.sandbox.behave(lost_answers=1.0)
    fleet.step("t0")
    fleet.sandbox.behave(lost_answers=0.0)
    fleet.is_due("t0")
    fleet.tick()
    assert fleet.tile("t0").job_id == fleet.jobs("t0")[0]["id"]
    assert len(fleet.jobs("t0")) == 1


def test_a_dead_worker_that_asked_for_nothing(fleet: Fleet) -> None:
    """Nobody is looked for or waited for: the dead one would have said so before it asked for a job."""
    dead = claimed_by_the_dead(fleet, sent=None)
    fleet.step("t0")
    tile = fleet.tile("t0")
    (job,) = fleet.jobs()
    assert (tile.status, tile.job_id, tile.attempt) == (S.QUEUED, job["id"], 1)
    with pytest.raises(TransitionLost):
        fleet.store.transition(dead, S.CREATED, job_id="late")


def test_a_dead_worker_with_a_job(fleet: Fleet) -> None:
    dead = claimed_by_the_dead(fleet)
    job = fleet.context.connection("local").create_job(GRAPH, title=f"x {marker(fleet, dead)}")
    fleet.start_with(boom)
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.job_id) == (S.QUEUED, job.job_id)
    assert len(fleet.jobs()) == 1


def test_a_dead_workers_job_is_found_behind_many_newer_ones(fleet: Fleet) -> None:
    dead = claimed_by_the_dead(fleet)
    connection = fleet.context.connection("local")
    job = connection.create_job(GRAPH, title=f"x {marker(fleet, dead)}")
    for number in range(101):
        connection.create_job(GRAPH, title=f"noise {number}")
    fleet.step("t0")
    assert fleet.tile("t0").job_id == job.job_id
    assert len(fleet.context.connection("local").list_jobs(limit=None)) >= 102


def test_the_job_of_another_attempt_or_tile_is_not_taken(fleet: Fleet) -> None:
    dead = claimed_by_the_dead(fleet, sent=60)
    connection = fleet.context.connection("local")
    foreign = {
        connection.create_job(GRAPH, title=f"x {title}").job_id
        for title in (
            marker(fleet, dead.evolve(attempt=11)),
            marker(fleet, dead.evolve(id="t01")),
            marker(fleet, dead.evolve(campaign=f"{fleet.name}x")),
            dead.marker("another0"),
        )
    }
    fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    assert fleet.tile("t0").job_id not in foreign


def test_a_job_older_than_the_claim_is_not_taken(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A campaign deleted from the store and enqueued again may have tiles and attempts of the same name."""
    dead = claimed_by_the_dead(fleet, sent=60)
    old = fleet.context.connection("local").create_job(GRAPH, title=f"x {marker(fleet, dead)}")
    monkeypatch.setattr("workers.backend.CLOCK_SKEW", timedelta(seconds=-5))
    fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    assert fleet.tile("t0").job_id != old.job_id


def test_the_clock_of_a_back_end_may_be_slow(fleet: Fleet) -> None:
    dead = claimed_by_the_dead(fleet)
    job = fleet.context.connection("local").create_job(GRAPH, title=f"x {marker(fleet, dead)}")
    for submitted in (60, 500):
        later = fleet.store.now() + submitted
        assert backend.find_job(fleet.context.connection("local"), marker(fleet, dead), later) == job.job_id
    assert backend.find_job(fleet.context.connection("local"), marker(fleet, dead), later + 200) is None


@pytest.mark.parametrize("sent", [None, 60.0], ids=["asked for nothing", "asked in vain"])
def test_the_tick_hands_on_the_tile_of_a_dead_worker(fleet: Fleet, sent: float | None) -> None:
    """Also while messages of other tiles wait in the queue."""
    assert fleet.store.queue_length(Step.SUBMIT) > 0
    dead = claimed_by_the_dead(fleet, sent=sent)
    fleet.tick()
    with pytest.raises(TransitionLost):
        fleet.store.transition(dead, S.SUBMITTING, holder=dead.holder, due=15)
    assert fleet.tile("t0").status in {S.QUEUED, S.RUNNING, S.FINISHED, S.POSTPROCESSED, S.PUBLISHED}
    assert len(fleet.jobs("t0")) == 1


def test_a_dead_worker_between_create_and_start(fleet: Fleet) -> None:
    dead = claimed_by_the_dead(fleet)
    job = fleet.context.connection("local").create_job(GRAPH, title=f"x {marker(fleet, dead)}")
    fleet.store.transition(dead, S.CREATED, job_id=job.job_id, holder=dead.holder, due=0.01)
    time.sleep(0.02)
    fleet.start_with(boom)
    fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    assert [job["status"] for job in fleet.jobs()] != ["created"]


@pytest.mark.parametrize(
    "trouble",
    [{"server_errors": 1.0, "server_error_status": 502}, {"server_errors": 1.0}, {"rate_limit": 0.001}],
    ids=["502", "503", "429"],
)
def test_no_second_job_when_looking_for_the_first_one_fails(fleet: Fleet, trouble: dict[str, Any]) -> None:
    fleet.sandbox.behave(lost_answers=1.0)
    fleet.step("t0")
    fleet.sandbox.behave(lost_answers=0.0, **trouble)
    requests.get(fleet.sandbox.url, timeout=10)  # the one request that the rate limit allows
    fleet.step("t0")
    fleet.sandbox.reset(fast=True)
    fleet.unpause()
    fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    assert len(fleet.jobs("t0")) == 1


def test_a_lost_answer_to_the_start(fleet: Fleet) -> None:
    fleet.sandbox.behave(lost_starts=1.0)
    fleet.step("t0")
    assert fleet.tile("t0").status is S.CREATED
    assert "t0" in slots(fleet)
    fleet.sandbox.behave(lost_starts=0.0)
    fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    assert len(fleet.jobs()) == 1


# Another worker was faster


def taken_over(fleet: Fleet, other: Context, tile_id: str = "t0") -> None:
    """Another worker takes the tile, whose lease is over, and submits it."""
    fleet.is_due(tile_id)
    thread = threading.Thread(target=fleet.step, args=(tile_id, other))
    thread.start()
    thread.join()


def test_a_worker_that_lost_its_tile_asks_for_no_job(fleet: Fleet) -> None:
    other = fleet.worker()
    for context in fleet.workers:
        context.connection("local")
    fleet.sandbox.clear_stats()
    calls = []

    def slow(connection: Any, **_: Any) -> BatchJob:
        calls.append(connection)
        if len(calls) == 1:
            taken_over(fleet, other)
            return create(connection, "late")
        return create(connection, "in time")

    fleet.start_with(slow)
    with pytest.raises(TransitionLost):
        submit(fleet.context, fleet.tile("t0"))
    (job,) = fleet.jobs()
    assert job["title"].startswith("in time")
    assert fleet.tile("t0").job_id == job["id"]
    assert fleet.tile("t0").status is S.QUEUED
    assert fleet.sandbox.stats()["requests"]["POST /jobs"] == 1


def test_a_job_that_came_too_late_is_removed_and_never_started(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker hung after it had asked for it; another one looked for it in vain, waited, and made its own."""
    other = fleet.worker()
    monkeypatch.setattr("workers.submit.SETTLED_AFTER", 0.0)
    calls = []

    def slow(connection: Any, **_: Any) -> BatchJob:
        calls.append(connection)
        if len(calls) > 1:
            return create(connection, "in time")
        with monkeypatch.context() as patch:
            patch.setattr("workers.backend.find_job", lambda *_: None)
            job = create(connection, "late")
            taken_over(fleet, other)
        return job

    fleet.start_with(slow)
    with pytest.raises(TransitionLost):
        submit(fleet.context, fleet.tile("t0"))
    (job,) = fleet.jobs()
    assert job["title"].startswith("in time")
    assert (fleet.tile("t0").status, fleet.tile("t0").job_id) == (S.QUEUED, job["id"])


def test_a_tile_read_before_its_job_was_asked_for(fleet: Fleet) -> None:
    """Two workers got the message; one read the tile, the other asked for a job, lost the answer and let go."""
    stale = fleet.store.claim(fleet.tile("t0"), 60, S.SUBMITTING, room="take", backends=["local"], attempt=1)
    job = fleet.context.connection("local").create_job(GRAPH, title=f"x {marker(fleet, stale)}")
    fleet.store.transition(stale, S.SUBMITTING, due=2, submitted_at=fleet.store.now(), sent_at=fleet.store.now())
    submit(fleet.worker(), stale)
    assert [found["id"] for found in fleet.jobs("t0")] == [job.job_id]


def test_a_job_that_another_worker_found_and_recorded_is_left_alone(fleet: Fleet) -> None:
    """The job was created in time, its worker was slow to record it, and another one found it by its marker."""
    other = fleet.worker()

    def slow(connection: Any, **_: Any) -> BatchJob:
        job = create(connection)
        taken_over(fleet, other)
        return job

    fleet.start_with(slow)
    with pytest.raises(TransitionLost):
        submit(fleet.context, fleet.tile("t0"))
    assert fleet.tile("t0").status is S.QUEUED
    assert [job["id"] for job in fleet.jobs()] == [fleet.tile("t0").job_id]


def test_a_tile_canceled_while_its_job_is_created(fleet: Fleet) -> None:
    def canceled_meanwhile(connection: Any, **_: Any) -> BatchJob:
        job = create(connection)
        fleet.store.transition(fleet.tile("t0"), S.CANCELED, anyone=True, room="free")
        return job

    fleet.start_with(canceled_meanwhile)
    with pytest.raises(TransitionLost):
        submit(fleet.context, fleet.tile("t0"))
    assert fleet.jobs() == []
    assert fleet.tile("t0").status is S.CANCELED


def test_a_tile_canceled_while_its_job_is_started(fleet: Fleet) -> None:
    fleet.sandbox.behave(job_seconds=30.0)

    def cancel(**_: Any) -> None:
        fleet.store.transition(fleet.tile("t0"), S.CANCELED, anyone=True, room="free")

    fleet.context.connection("local").events.on("job.started", cancel)
    with pytest.raises(TransitionLost):
        submit(fleet.context, fleet.tile("t0"))
    assert fleet.tile("t0").status is S.CANCELED
    assert [job["status"] for job in fleet.jobs() if job["status"] in {"queued", "running"}] == []


# What the back-end refuses


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "402": ({"credits": 0.0}, "payment"),
    "ConcurrentJobLimit": ({"max_active_jobs": 1}, "capacity"),
    "503": ({"server_errors": 1.0, "retry_after": 90}, "capacity"),
    "429": ({"rate_limit": 0.001, "retry_after": 90}, "capacity"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_pauses_the_back_end_and_keeps_the_tile(fleet: Fleet, name: str) -> None:
    behaviour, error_class = REFUSALS[name]
    fleet.context.connection("local")
    if name == "ConcurrentJobLimit":
        fleet.sandbox.behave(job_seconds=3.0)
        fleet.step("t1")
    fleet.sandbox.behave(**behaviour)
    requests.get(fleet.sandbox.url, timeout=10)  # the one request that the rate limit allows
    fleet.step("t0")
    tile = fleet.tile("t0")
    state = fleet.store.backend("local")
    assert state.paused
    assert state.paused_reason.startswith(f"{error_class}: ")
    pause = behaviour.get("retry_after", setbacks.PAUSES[ErrorClass(error_class)])
    assert state.paused_until - fleet.store.now() == pytest.approx(pause, abs=2)
    due = fleet.due_in("t0")
    if name == "503":  # whether there is a job is not known
        assert due == pytest.approx(pause, abs=2)
    else:  # waits for its turn: a job that ends, the end of the pause, or another back-end
        assert due is None
        assert (state.ready, state.waiting) == ((0, 3) if name == "429" else (1, 2 - (name == "ConcurrentJobLimit")))
    assert state.most == (1 if name == "ConcurrentJobLimit" else 2)
    assert (tile.error_class, tile.tries) == (error_class, 0)
    assert tile.status is {"429": S.NOT_STARTED, "503": S.SUBMITTING}.get(name, S.CREATED)
    if tile.status is S.NOT_STARTED:
        assert (tile.attempt, tile.backend, slots(fleet)) == (0, "", set())
    fleet.sandbox.reset(fast=True)
    fleet.step("t0")
    assert fleet.tile("t0").status is tile.status
    fleet.unpause()
    fleet.store.clear_pause("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.submit.SETTLED_AFTER", 0.0)
        fleet.is_due("t0")
        fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    assert len(fleet.jobs("t0")) == 1
    assert fleet.tile("t0").attempt == 1


def test_nothing_is_submitted_while_a_back_end_is_paused(fleet: Fleet) -> None:
    fleet.context.pauses.pause("local", 60, "payment: none left", what="starts")
    fleet.sandbox.clear_stats()
    assert [fleet.step(tile) for tile in ("t0", "t1", "t2")] == [[], [], []]
    assert fleet.store.counts(fleet.name) == {S.NOT_STARTED: 3}
    assert "POST /jobs" not in fleet.sandbox.stats()["requests"]
    assert fleet.store.backend("local").waiting == 3


@pytest.mark.parametrize("status", [S.SUBMITTING, S.CREATED])
def test_a_tile_on_its_way_is_put_off_to_the_end_of_the_pause(fleet: Fleet, status: TileStatus) -> None:
    dead = claimed_by_the_dead(fleet)
    if status is S.CREATED:
        fleet.store.transition(dead, status, holder=dead.holder, due=0.01, job_id="j-1")
        time.sleep(0.02)
    fleet.context.pauses.pause("local", 60, "payment: none left", what="starts")
    before = fleet.tile("t0")
    fleet.sandbox.clear_stats()
    assert fleet.step("t0") == []
    due = fleet.due_in("t0")
    if status is S.CREATED:
        assert (due, fleet.store.backend("local").ready) == (None, 1)
    else:
        assert due is not None
        assert 55 < due <= 62
    assert fleet.tile("t0") == before.evolve(holder="")
    assert fleet.sandbox.stats()["requests"] == {}


@pytest.mark.parametrize("password", ["wrong", ""])
def test_refused_credentials_pause_the_back_end(fleet: Fleet, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_LOCAL_PASSWORD", password)
    fleet.step("t0")
    state = fleet.store.backend("local")
    assert state.paused_reason.startswith("auth: ")
    assert "FLEET_LOCAL_USERNAME and FLEET_LOCAL_PASSWORD" in state.paused_reason
    assert "wrong" not in state.paused_reason.replace("are wrong", "")
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.tries, tile.error_class) == (S.NOT_STARTED, 0, 0, "auth")
    assert slots(fleet) == set()
    assert (fleet.store.backend("local").waiting, fleet.due_in("t0")) == (3, None)
    assert state.paused_until - fleet.store.now() == pytest.approx(60, abs=2)


def test_refused_credentials_are_not_tried_again_at_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads with tiles of the same back-end would have the user locked out."""
    monkeypatch.setenv("FLEET_LOCAL_PASSWORD", "wrong")
    fleet.step("t0")
    fleet.sandbox.clear_stats()
    for tile_id in ("t1", "t2"):
        fleet.unpause()
        fleet.step(tile_id)
        assert fleet.tile(tile_id).error_class == "auth"
    assert fleet.sandbox.stats()["requests"] == {}
    monkeypatch.setattr("workers.context.time", SimpleNamespace(monotonic=lambda: time.perf_counter() + 1e9))
    monkeypatch.setenv("FLEET_LOCAL_PASSWORD", "demo")
    fleet.unpause()
    fleet.step("t1")
    assert fleet.tile("t1").status is S.QUEUED


def test_a_back_end_that_does_not_answer_costs_no_attempt(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(url="http://127.0.0.1:9/openeo/1.2", auth="none")
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.tries, tile.error_class) == (S.NOT_STARTED, 0, 1, "outage")
    assert "t0" not in slots(fleet)
    due = fleet.due_in("t0")
    assert due is not None
    assert 0.5 < due <= 2
    assert not fleet.store.backend("local").paused


def test_an_outage_pauses_the_back_end_longer_and_longer_until_it_answers(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=2)
    pauses = []
    for _ in range(setbacks.MAX_TRIES + 4):
        with fleet.away():
            fleet.step("t0")
        tile, state = fleet.tile("t0"), fleet.store.backend("local")
        assert (tile.status, tile.error_class) == (S.NOT_STARTED, "outage")
        assert tile.tries <= 2
        pauses.append(state.paused_until - fleet.store.now() if state.paused else 0.0)
        fleet.unpause()
    assert pauses == pytest.approx([0, 0, 5, 10, 20, 40, 80, 160, 300, 300, 300, 300], abs=1)
    assert state.paused_reason.startswith("outage: ")
    fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    with fleet.away():
        fleet.step("t1")
    assert fleet.tile("t1").error_class == "outage"
    assert not fleet.store.backend("local").paused


def test_a_tile_fails_when_its_tries_are_used_up(
    make_fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = make_fleet(tiles=1)
    monkeypatch.setattr("workers.setbacks.MAX_TRIES", 3)
    fleet.sandbox.behave(server_errors=1.0, server_error_status=500)
    for tries in (1, 2):
        fleet.step("t0")
        tile = fleet.tile("t0")
        assert (tile.status, tile.attempt, tile.tries, tile.error_class) == (S.NOT_STARTED, 0, tries, "transient")
        assert fleet.due_in("t0") == pytest.approx(2**tries * 0.75, abs=2**tries * 0.25 + 0.2)
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.failed_step, tile.error_class) == (S.FAILED, "submit", "transient")
    assert "t0" not in slots(fleet)


@pytest.mark.parametrize("status", [S.SUBMITTING, S.FINISHED])
def test_a_tile_that_ends_its_workers_fails(fleet: Fleet, status: TileStatus) -> None:
    """A file that takes all memory, a crash in a library: no worker lives to record what happened."""
    if status is S.FINISHED:
        fleet.finished("t0")
        fleet.step("t1")
    else:
        claimed_by_the_dead(fleet, sent=None)
    first = fleet.tile("t0").tries
    for _ in range(setbacks.MAX_TRIES - first):
        fleet.store.claim(fleet.tile("t0"), 0.001)
        time.sleep(0.003)
    assert (fleet.tile("t0").status, fleet.tile("t0").tries) == (status, setbacks.MAX_TRIES)
    fleet.sandbox.clear_stats()
    fleet.tick()
    tile = fleet.tile("t0")
    step = "submit" if status is S.SUBMITTING else "postprocess"
    assert (tile.status, tile.failed_step, tile.error_class) == (S.FAILED, step, "unexpected")
    assert tile.error == f"{step} ended its worker {setbacks.MAX_TRIES} times"
    assert "t0" not in slots(fleet)
    assert fleet.due_in("t0") is None
    assert fleet.store.history(fleet.name, "t0")[-1]["error_class"] == "unexpected"


def test_each_claim_is_a_try_until_one_goes_well(fleet: Fleet) -> None:
    claimed_by_the_dead(fleet, sent=None)
    assert fleet.tile("t0").tries == 1
    fleet.step("t0")
    assert fleet.tile("t0").tries == 0


def test_pauses_do_not_use_up_the_tries(fleet: Fleet) -> None:
    fleet.sandbox.behave(credits=0.0)
    for _ in range(setbacks.MAX_TRIES + 1):
        fleet.unpause()
        fleet.step("t0")
    assert fleet.tile("t0").status is S.CREATED
    fleet.sandbox.behave(credits=-1.0, server_errors=1.0, server_error_status=500)
    fleet.unpause()
    fleet.step("t0")
    assert (fleet.tile("t0").status, fleet.tile("t0").tries) == (S.CREATED, 1)


def test_a_job_that_is_gone_before_it_was_started_is_another_attempt(fleet: Fleet) -> None:
    fleet.sandbox.behave(credits=0.0)
    fleet.step("t0")
    fleet.context.connection("local").job(fleet.tile("t0").job_id).delete()
    fleet.sandbox.behave(credits=-1.0)
    fleet.unpause()
    messages = fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.job_id, tile.tries) == (S.NOT_STARTED, 1, "", 0)
    assert tile.error_class == "job"
    (entry,) = fleet.store.history(fleet.name, "t0")
    assert (entry["attempt"], entry["error_class"]) == (1, "job")
    assert "t0" in {message.kwargs["tile"] for message in messages}
    fleet.step("t0")
    assert (fleet.tile("t0").status, fleet.tile("t0").attempt) == (S.QUEUED, 2)


def test_retry_after_is_honoured(fleet: Fleet) -> None:
    fleet.context.connection("local")
    fleet.sandbox.behave(rate_limit=0.001, retry_after=120)
    requests.get(fleet.sandbox.url, timeout=10)  # the one request that the rate limit allows
    fleet.step("t0")
    assert fleet.store.backend("local").paused_until - fleet.store.now() > 100


# Room


def test_no_room_leaves_the_tile_waiting(fleet: Fleet) -> None:
    fleet.sandbox.behave(job_seconds=30.0)
    fleet.step("t0")
    fleet.step("t1")
    assert fleet.step("t2") == []
    tile = fleet.tile("t2")
    assert (tile.status, tile.attempt, tile.holder) == (S.NOT_STARTED, 0, "")
    assert fleet.store.backend("local").waiting == 1
    assert len(fleet.jobs()) == 2


def test_tiles_are_woken_in_the_order_of_the_table(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=12, parallel_jobs=1)
    fleet.start_with(lambda **_: None)
    order = ["t11"]
    while messages := fleet.step(order[-1]):
        (message,) = messages
        order.append(message.kwargs["tile"])
    assert order == ["t11", *(f"t{number}" for number in range(11))]


def test_a_pinned_tile_waits_for_its_own_back_end(make_fleet: Callable[..., Fleet], fast_sandbox: Any) -> None:
    backends = [
        {"name": name, "url": fast_sandbox.url, "auth": "basic", "parallel_jobs": 1, "prepared_jobs": 0}
        for name in ("local", "second")
    ]
    fleet = make_fleet(backends=backends, columns='{"backend_name": ["second", "second", None]}')
    for tile_id in ("t0", "t1", "t2"):
        fleet.step(tile_id)
    assert [fleet.tile(tile_id).backend for tile_id in ("t0", "t1", "t2")] == ["second", "second", "local"]
    assert [fleet.tile(tile_id).status for tile_id in ("t0", "t1", "t2")] == [S.QUEUED, S.NOT_STARTED, S.QUEUED]


def test_a_pinned_tile_stays_pinned_when_it_is_put_off(
    make_fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = make_fleet(tiles=1, columns='{"backend_name": ["local"]}')
    monkeypatch.setenv("FLEET_LOCAL_PASSWORD", "wrong")
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.pinned, tile.backend) == (S.NOT_STARTED, True, "local")
    assert "t0" not in slots(fleet)
    monkeypatch.setenv("FLEET_LOCAL_PASSWORD", "demo")
    fleet.context._refusals.clear()
    fleet.unpause()
    fleet.is_due("t0")
    fleet.store.redis.delete(fleet.store.key("celery:") + Step.SUBMIT)
    fleet.tick()
    assert fleet.tile("t0").status is not S.NOT_STARTED
    assert fleet.tile("t0").backend == "local"


# Tokens


@pytest.mark.parametrize("auth", ["basic", "client_credentials"])
def test_a_token_that_expires_is_replaced(
    make_fleet: Callable[..., Fleet], auth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_LOCAL_CLIENT_ID", "robot")
    monkeypatch.setenv("FLEET_LOCAL_CLIENT_SECRET", "key")
    fleet = make_fleet(auth=auth)
    fleet.sandbox.behave(token_seconds=0.2)
    connection = fleet.context.connection("local")
    first = connection.auth.bearer
    fleet.sandbox.behave(token_seconds=0.0)
    time.sleep(0.3)
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.error) == (S.QUEUED, "")
    assert fleet.context.connection("local") is connection
    assert connection.auth.bearer != first
    assert connection.job(tile.job_id).describe()["title"].endswith(marker(fleet, tile))


def test_credentials_changed_while_a_token_expires(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.sandbox.behave(token_seconds=0.2)
    fleet.context.connection("local")
    time.sleep(0.3)
    monkeypatch.setenv("FLEET_LOCAL_PASSWORD", "changed")
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.error_class) == (S.NOT_STARTED, 0, "auth")
    assert fleet.store.backend("local").paused_reason.startswith("auth: ")
    monkeypatch.setenv("FLEET_LOCAL_PASSWORD", "demo")
    fleet.unpause()
    fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    assert len(fleet.jobs()) == 1


# The campaign file


EDITS: dict[str, Callable[[Path], Any]] = {
    "removed": lambda path: path.unlink(),
    "not Python any more": lambda path: path.write_text("def start_job(:"),
    "edited": lambda path: path.write_text(path.read_text().replace('title=f"{row.name}"', 'title="edited"')),
}


@pytest.mark.parametrize("name", EDITS)
def test_workers_run_the_file_as_it_was_enqueued(fleet: Fleet, name: str) -> None:
    EDITS[name](fleet.path)
    for context, tile_id in ((fleet.context, "t0"), (fleet.worker(), "t1")):
        fleet.step(tile_id, context)
        assert (fleet.tile(tile_id).status, fleet.tile(tile_id).error) == (S.QUEUED, "")
    assert sorted(job["title"].split()[0] for job in fleet.jobs()) == ["100", "101"]


def test_an_edited_file_counts_once_it_is_enqueued_again(fleet: Fleet) -> None:
    fleet.step("t0")
    run = fleet.meta.run
    EDITS["edited"](fleet.path)
    enqueue(load_campaign(fleet.path), fleet.store, fleet.settings.redis_url, fleet.settings.workdir)
    assert fleet.meta.source == fleet.path.read_text()
    fleet.step("t1")
    assert [job["title"].split()[0] for job in fleet.jobs()] == ["edited", "100"]
    assert fleet.meta.run == run


def test_tracebacks_show_the_lines_of_the_file_as_it_was_enqueued(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(code="\n\ndef start_job(row, **kwargs):\n    raise KeyError(row.name)  # this one\n")
    fleet.path.unlink()
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.error_class) == (S.FAILED, "user_code")
    assert "raise KeyError(row.name)  # this one" in tile.error
    assert str(fleet.path) in tile.error


def test_a_file_that_does_not_run_where_the_worker_is_fails_its_tiles_one_by_one(fleet: Fleet) -> None:
    source = "import a_package_that_this_machine_has_not\n" + fleet.meta.source
    fleet.store.put_campaign(replace(fleet.meta, source=source, sha256="1"))
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert tile.status is S.FAILED
    assert "No module named 'a_package_that_this_machine_has_not'" in tile.error
    assert tick(fleet.context) is not None
    assert tile.error_class == "user_code"


# Redis is away for a while


def test_a_step_that_loses_redis_leaves_its_tile_to_the_tick(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job was asked for, and nobody could write that down."""
    transition, calls = fleet.store.transition, []

    def lost(tile: Tile, to: TileStatus, **words: Any) -> Tile:
        if to is S.CREATED:
            calls.append(to)
            raise StoreUnavailable("Redis does not answer")
        return transition(tile, to, **words)

    monkeypatch.setattr(fleet.store, "transition", lost)
    with pytest.raises(StoreUnavailable):
        fleet.step("t0")
    monkeypatch.undo()
    monkeypatch.setenv("FLEET_LOCAL_USERNAME", "demo")
    monkeypatch.setenv("FLEET_LOCAL_PASSWORD", "demo")
    assert calls == [S.CREATED]
    assert (fleet.tile("t0").status, fleet.tile("t0").job_id) == (S.SUBMITTING, "")
    fleet.is_due("t0")
    fleet.tick()
    (job,) = fleet.jobs("t0")
    assert fleet.tile("t0").job_id == job["id"]


def test_a_lost_answer_that_user_code_swallows_is_not_forgotten(fleet: Fleet) -> None:
    """start_job catches the error and returns None: the job that exists is found, and the tile not skipped."""

    def careless(connection: Any, **_: Any) -> BatchJob | None:
        try:
            return create(connection)
        except requests.ConnectionError:
            return None

    fleet.start_with(careless)
    fleet.sandbox.behave(lost_answers=1.0)
    fleet.step("t0")
    assert (fleet.tile("t0").status, fleet.tile("t0").error_class) == (S.SUBMITTING, "transient")
    fleet.sandbox.reset(fast=True)
    fleet.is_due("t0")
    fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    assert [job["id"] for job in fleet.jobs("t0")] == [fleet.tile("t0").job_id]
