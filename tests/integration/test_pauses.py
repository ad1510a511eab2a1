"""Rates and pauses: how often a back-end is asked, by all workers together, and when it is left alone."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from campaign.errors import NoRoom
from campaign.tile import Step, TileStatus
from workers.failures import Throttled
from workers.limits import Limits
from workers.pauses import Pauses
from workers.rates import LONGEST_WAIT, Rates
from workers.track import track

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign.store import TileStore
    from tests.integration.conftest import Fleet

S = TileStatus
GRAPH: dict[str, Any] = {"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}
SECOND = {"auth": "basic", "parallel_jobs": 2, "prepared_jobs": 0, "poll_interval": 0.05}


def field(store: TileStore, name: str, value: float | None = None) -> float:
    """A field of the back-end, set first if a value is given."""
    key = store.key("b", "local")
    if value is not None:
        store.redis.hset(key, name, value)
    return float(store.redis.hget(key, name) or 0)


def back(store: TileStore, name: str, seconds: float) -> None:
    """Let `seconds` pass for a time that the store keeps."""
    field(store, name, field(store, name) - seconds)


def local(store: TileStore, **limits: Any) -> None:
    store.put_backend("local", {"name": "local", "url": "http://x", "parallel_jobs": 50, "prepared_jobs": 0, **limits})


# Submissions per minute


@pytest.mark.parametrize("most", [1, 6, 30])
def test_no_more_jobs_in_any_minute_than_allowed(make_fleet: Callable[..., Fleet], most: int) -> None:
    """Time passes in steps of a second; two workers ask in turn, and the tick wakes."""
    fleet = make_fleet(tiles=60, parallel_jobs=60, submissions_per_minute=most)
    limits, store = Limits(fleet.store, 15), fleet.store
    given: list[int] = []
    for second in range(100):
        before = store.backend("local").places
        if second % 2:
            limits.wake("local")
        else:
            for tile in list(store.tiles(fleet.name, S.NOT_STARTED))[:3]:
                fleet_take(store, tile.id, fleet)
        given += [second] * (store.backend("local").places - before)
        if field(store, "submit_at"):
            back(store, "submit_at", 1.0)
    in_a_minute = [sum(start <= at < start + 60 for at in given) for start in range(40)]
    assert max(in_a_minute) <= most
    assert max(in_a_minute) >= most - 1


def fleet_take(store: TileStore, tile_id: str, fleet: Fleet) -> None:
    with contextlib.suppress(NoRoom):
        store.claim(fleet.tile(tile_id), 60, S.SUBMITTING, room="take", backends=["local"], attempt=1)


def test_two_workers_create_no_more_jobs_than_allowed(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=8, parallel_jobs=8, submissions_per_minute=60)
    fleet.sandbox.behave(queue_seconds=60.0)
    workers = [fleet.context, fleet.worker()]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: fleet.step(f"t{number}", workers[number % 2]), range(8)))
    assert 2 <= len(fleet.jobs()) <= 4  # two seconds' worth, and what a second of work lets through
    assert fleet.store.counts(fleet.name)[S.NOT_STARTED] + len(fleet.jobs()) == 8
    field(fleet.store, "submit_at", 1.0)
    fleet.tick()
    assert len(fleet.jobs()) >= 4


# Requests per second


def test_workers_that_keep_to_a_rate_are_not_refused(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=1, requests_per_second=20)
    workers = [fleet.context, fleet.worker(), fleet.worker()]
    for context in workers:
        context.connection("local")
    fleet.sandbox.behave(rate_limit=20.0)
    fleet.sandbox.clear_stats()
    began = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: workers[number % 3].connection("local").get("/jobs?limit=1"), range(60)))
    assert fleet.sandbox.stats()["statuses"] == {"200": 60}
    assert time.monotonic() - began > 60 / 20 - 0.5


def test_requests_are_spread_over_time(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("workers.rates.time", SimpleNamespace(sleep=waits.append))
    local(store, requests_per_second=10)
    rates, began = Rates(store), store.now()
    for _ in range(30):
        rates.wait("local")
    assert field(store, "request_at") - began == pytest.approx(3.0, abs=0.05)
    assert waits == sorted(waits)
    assert max(waits) == pytest.approx(3.0 - 0.1 - 0.25, abs=0.3)


def test_a_request_that_would_wait_too_long_is_not_reserved(store: TileStore) -> None:
    local(store, requests_per_second=1)
    at = field(store, "request_at", store.now() + 30)
    with pytest.raises(Throttled) as told:
        Rates(store).wait("local")
    assert told.value.seconds == pytest.approx(30 - 0.25, abs=0.5)
    assert field(store, "request_at") == at


@pytest.mark.parametrize("rate", [None, 8.0])
def test_after_a_pause_the_pace_begins_slowly(
    store: TileStore, rate: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.rates.time", SimpleNamespace(sleep=lambda _: None))
    local(store, **({"requests_per_second": rate} if rate else {}))
    rates, gaps = Rates(store), []
    field(store, "ramp_from", store.now())
    for _ in range(5):
        field(store, "request_at", store.now())
        rates.wait("local")
        gaps.append(field(store, "request_at") - store.now())
        back(store, "ramp_from", 4.0)
    full = rate or 16.0
    paces = [min(full / 8 * 2**number, rate or 1e9) for number in range(5)]
    assert gaps == pytest.approx([1 / pace for pace in paces], rel=0.15, abs=0.06)
    back(store, "ramp_from", 30.0)
    field(store, "request_at", 1.0)
    rates.wait("local")
    assert field(store, "request_at") == pytest.approx(store.now() + 1 / rate if rate else 1.0, abs=0.1)


def test_a_throttled_tile_waits_in_the_store_and_nothing_is_wrong(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(requests_per_second=1)
    fleet.context.connection("local")
    field(fleet.store, "request_at", fleet.store.now() + 60)
    fleet.sandbox.clear_stats()
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.tries, tile.error_class, tile.error) == (S.NOT_STARTED, 0, 0, "", "")
    assert fleet.due_in("t0") == pytest.approx(60, abs=3)
    assert fleet.store.history(fleet.name, "t0") == []
    assert not fleet.store.backend("local").paused
    assert fleet.sandbox.stats()["requests"] == {}


@pytest.mark.parametrize("code", ["", "OOM"])
def test_a_throttled_tracker_ends_its_look_and_keeps_what_it_saw(
    make_fleet: Callable[..., Fleet], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list was read, what comes after it has to wait."""
    fleet = make_fleet(tiles=2)
    fleet.start_with(lambda row, connection, **_: connection.create_job(GRAPH, title=f"fail:{code}" if code else "x"))
    for name in ("t0", "t1"):
        fleet.step(name)
        fleet.job_is(name, "error" if code else "finished")
    if not code:
        fleet.context.connection("local").job(fleet.tile("t1").job_id).delete()
    gate, asked = fleet.context.connection("local")._gate, []

    def once(*_: Any) -> None:
        asked.append(1)
        if len(asked) > 1:
            raise Throttled(9)

    monkeypatch.setattr(fleet.context.connection("local"), "_gate", once)
    track(fleet.context, "local")
    assert fleet.tile("t0").status is (S.QUEUED if code else S.FINISHED)
    assert fleet.tile("t1").status is S.QUEUED
    assert not fleet.store.backend("local").trouble
    monkeypatch.setattr(fleet.context.connection("local"), "_gate", gate)
    track(fleet.context, "local")
    assert {tile.error_class for tile in (fleet.tile("t0"), fleet.tile("t1"))} == (
        {"resources"} if code else {"", "job"}
    )


# Pauses


def test_a_back_end_that_takes_fewer_jobs_than_it_is_said_to(make_fleet: Callable[..., Fleet]) -> None:
    """Tracking goes on, the limit is learned, and each job that ends lets the next one start."""
    fleet = make_fleet(tiles=8, parallel_jobs=5, poll_interval=0.05)
    fleet.sandbox.behave(max_active_jobs=2, parallel=2, job_seconds=0.2)
    fleet.sandbox.clear_stats()
    learned, deadline = set(), time.monotonic() + 30
    while fleet.store.counts(fleet.name) != {S.PUBLISHED: 8}:
        fleet.tick()
        learned.add(fleet.store.backend("local").learned_jobs)
        assert time.monotonic() < deadline, fleet.store.counts(fleet.name)
        time.sleep(0.05)
    stats = fleet.sandbox.stats()
    refused = stats["statuses"].get("400", 0)
    assert refused <= 4, (refused, learned)
    assert 2 in learned
    assert stats["requests"]["POST /jobs"] == 8
    assert {tile.attempt for tile in fleet.store.tiles(fleet.name)} == {1}


def test_jobs_that_are_being_started_count_as_jobs_that_a_full_back_end_takes(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=3, parallel_jobs=3)
    fleet.sandbox.behave(max_active_jobs=2, queue_seconds=60.0)
    plain, connection = fleet.context.hooks(fleet.meta).start_job, fleet.context.connection("local")

    def start_job(row: Any, **words: Any) -> Any:
        if row.tile_id == "t2":  # another worker has started t1 and does not know it yet
            connection.job(held.job_id).start()
        return plain(row=row, **words)

    fleet.start_with(start_job)
    fleet.step("t0")
    held = taken(fleet, "t1")
    fleet.step("t2")
    assert fleet.tile("t2").status is S.CREATED
    assert fleet.store.backend("local").learned_jobs == 2


def taken(fleet: Fleet, name: str) -> Any:
    words: dict[str, Any] = {"room": "take", "backends": ["local"], "attempt": 1}
    held = fleet.store.claim(fleet.tile(name), 60, S.SUBMITTING, **words)
    job = fleet.context.connection("local").create_job(GRAPH, title=held.marker(fleet.meta.run))
    return fleet.store.transition(held, S.CREATED, holder=held.holder, due=60, room="start", job_id=job.job_id)


@pytest.mark.parametrize("other", ["payment: none left", "capacity: slow down"])
def test_the_end_of_a_job_ends_the_pause_of_a_full_back_end_and_no_other(store: TileStore, other: str) -> None:
    local(store)
    pauses, what = Pauses(store), "starts" if other.startswith("payment") else "everything"
    pauses.full("local", 2, 10, "capacity: full")
    pauses.job_ended("local")
    assert pauses.paused_for("local") == 0
    assert store.backend("local").learned_jobs == 2
    pauses.full("local", 2, 10, "capacity: full")
    pauses.pause("local", 60, other, what=what)
    pauses.job_ended("local")
    assert pauses.paused_for("local") == pytest.approx(60, abs=2)
    pauses.full("local", 2, 10, "capacity: full")
    pauses.job_ended("local")
    assert pauses.paused_for("local") == pytest.approx(60, abs=2)
    assert store.backend("local").paused_reason == other


@pytest.mark.parametrize("refusal", [{"rate_limit": 0.001}, {"server_errors": 1.0}])
def test_nobody_sends_before_retry_after_ends(fleet: Fleet, refusal: dict[str, float]) -> None:
    fleet.step("t0")
    fleet.job_is("t0", "finished")
    connection, other = fleet.context.connection("local"), fleet.worker()
    other.connection("local")
    fleet.sandbox.behave(retry_after=60, **refusal)
    connection.session.get(fleet.sandbox.url)  # the one request that the rate limit allows
    track(fleet.context, "local")
    assert fleet.store.backend("local").paused
    fleet.sandbox.reset(fast=True)
    fleet.sandbox.clear_stats()
    for context in (fleet.context, other):
        track(context, "local")
        fleet.step("t1", context)
        with pytest.raises(Throttled):
            context.connection("local").get("/jobs")
    fleet.tick()
    assert fleet.sandbox.stats()["requests"] == {}
    fleet.unpause()
    track(other, "local")
    assert fleet.tile("t0").status is S.FINISHED


def test_a_short_rest_of_a_pause_is_waited_for(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("workers.rates.time", SimpleNamespace(sleep=waits.append))
    local(store)
    Pauses(store).pause("local", LONGEST_WAIT - 1, "capacity: slow down")
    Rates(store).wait("local")
    assert waits == pytest.approx([LONGEST_WAIT - 1], abs=0.3)


def test_an_outage_pauses_from_the_third_time_in_a_row(fleet: Fleet) -> None:
    fleet.context.connection("local")
    fleet.step("t0")
    fleet.sandbox.behave(server_errors=1.0, server_error_status=502)
    for paused in (False, False, True):
        track(fleet.context, "local")
        assert fleet.store.backend("local").paused is paused
    assert fleet.store.backend("local").paused_reason.startswith("outage: ")


def test_without_credits_starts_wait_and_results_are_delivered(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=4, poll_interval=0.05)
    fleet.step("t0")
    fleet.job_is("t0", "finished")
    fleet.sandbox.behave(credits=0.0)
    fleet.step("t1")
    assert fleet.store.backend("local").paused_reason.startswith("payment: ")
    assert (fleet.tile("t1").status, fleet.tile("t1").tries) == (S.CREATED, 0)
    for _ in range(3):
        fleet.tick()
        time.sleep(0.06)
    assert fleet.store.counts(fleet.name) == {S.PUBLISHED: 1, S.CREATED: 1, S.NOT_STARTED: 2}
    fleet.sandbox.behave(credits=-1.0)
    fleet.store.clear_pause("local")
    fleet.tick()
    assert fleet.tile("t1").attempt == 1
    assert S.CREATED not in fleet.store.counts(fleet.name)
    assert len(fleet.jobs("t1")) == 1


def test_a_back_end_that_the_user_stopped(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=6, prepared_jobs=1, poll_interval=0.05)
    fleet.sandbox.behave(queue_seconds=60.0)
    for number in range(3):
        fleet.step(f"t{number}")
    fleet.store.redis.hset(fleet.store.key("b", "local"), "stopped", "by the user")
    fleet.sandbox.behave(queue_seconds=0.0)
    for name in ("t0", "t1"):
        fleet.job_is(name, "finished")
    for _ in range(3):
        fleet.tick()
        time.sleep(0.06)
    assert [fleet.step(name) for name in ("t2", "t3")] == [[], []]
    assert fleet.store.counts(fleet.name) == {S.PUBLISHED: 2, S.CREATED: 1, S.NOT_STARTED: 3}
    fleet.store.redis.hdel(fleet.store.key("b", "local"), "stopped")
    fleet.tick()
    assert {fleet.tile(name).next_step for name in ("t2", "t3")} <= {Step.TRACK, Step.POSTPROCESS, None}


@pytest.mark.parametrize("field_of", ["stopped", "pause"])
def test_a_woken_tile_of_a_back_end_that_is_left_alone_goes_elsewhere(
    make_fleet: Callable[..., Fleet], field_of: str
) -> None:
    url = make_fleet().sandbox.url
    fleet = make_fleet(backends=[SECOND | {"name": name, "url": url} for name in ("local", "second")], tiles=2)
    woken = fleet.context.limits.wake("local")
    assert [tile.id for tile in woken if tile.campaign == fleet.name] == ["t0"] or len(woken) == 2
    if field_of == "stopped":
        fleet.store.redis.hset(fleet.store.key("b", "local"), "stopped", "by the user")
    else:
        fleet.context.pauses.pause("local", 600, "payment: none left", what="starts")
    mine = [tile for tile in woken if tile.campaign == fleet.name]
    for tile in mine:
        assert fleet.step(tile.id) == []
        assert fleet.tile(tile.id).backend == ""
    fleet.tick()
    assert {tile.backend for tile in fleet.store.tiles(fleet.name)} == {"second"}
