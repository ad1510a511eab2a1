"""Another attempt: on another back-end, with other job options, after a time limit; or none, when all would fail."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from campaign.control import Controls
from campaign.errors import TransitionLost
from campaign.tile import Tile, TileStatus
from workers import backend
from workers.track import track

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign.store import TileStore
    from tests.integration.conftest import Fleet

S = TileStatus
GRAPH: dict[str, Any] = {"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}
NAMES = ("local", "second")


@pytest.fixture
def two(make_fleet: Callable[..., Fleet], fast_sandbox: Any) -> Callable[..., Fleet]:
    """A campaign on two back-ends, the second with more room."""

    def make(**words: Any) -> Fleet:
        backends = [
            {"name": name, "url": fast_sandbox.url, "auth": "basic", "parallel_jobs": room, "prepared_jobs": 0}
            for name, room in zip(NAMES, (1, 3), strict=True)
        ]
        fleet = make_fleet(backends=backends, **words)
        for name in NAMES:
            fleet.context.connection(name)
        return fleet

    return make


def titled(fleet: Fleet, title: Callable[[Any, str], str], **words: Any) -> None:
    """Jobs from now on have the title that `title` says for a row and the name of a back-end."""
    fleet.start_with(
        lambda row, connection, provider, **_: connection.create_job(GRAPH, title=title(row, provider), **words)
    )


def attempt(fleet: Fleet, name: str = "t0", status: str = "error") -> Tile:
    """One more attempt of a tile, to the end of its job."""
    fleet.step(name)
    at = fleet.tile(name).backend
    fleet.job_is(name, status)
    track(fleet.context, at)
    return fleet.tile(name)


# Other back-ends


def test_tiles_go_where_most_room_is(two: Callable[..., Fleet]) -> None:
    fleet = two(tiles=5)
    fleet.sandbox.behave(queue_seconds=60.0)
    for number in range(5):
        fleet.step(f"t{number}")
    went = [fleet.tile(f"t{number}").backend for number in range(5)]
    assert went[:2] == ["second", "second"]
    assert sorted(went) == ["", "local", "second", "second", "second"]


def test_a_job_that_failed_on_one_back_end_goes_to_the_other_and_back(two: Callable[..., Fleet]) -> None:
    fleet = two(tiles=1, max_attempts=4)
    titled(fleet, lambda *_: "fail:Internal")
    went = []
    for _ in range(4):
        fleet.step("t0")
        went.append(fleet.tile("t0").backend)
        fleet.job_is("t0", "error")
        track(fleet.context, went[-1])
    assert went == ["second", "local", "second", "local"]
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.error_class) == (S.FAILED, 4, "job")


def test_what_a_back_end_does_not_have_another_may_have(two: Callable[..., Fleet]) -> None:
    fleet = two(tiles=1)
    asked = []

    def start_job(connection: Any, provider: str, **_: Any) -> Any:
        asked.append(provider)
        if provider == "second":
            connection.get("/collections/NOPE")
        return connection.create_job(GRAPH, title="x")

    fleet.start_with(start_job)
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.tries, tile.avoid) == (S.NOT_STARTED, 0, 0, "second")
    assert tile.error_class == "backend"
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.backend, tile.error_class) == (S.QUEUED, 1, "local", "")
    assert asked == ["second", "local"]


def test_what_no_back_end_has_fails_the_tile(two: Callable[..., Fleet]) -> None:
    fleet = two(tiles=1)
    fleet.start_with(lambda connection, **_: connection.get("/collections/NOPE"))
    fleet.step("t0")
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.attempt, tile.error_class) == (S.FAILED, 1, "backend")
    assert "CollectionNotFound" in tile.error
    assert [fleet.store.backend(name).places for name in NAMES] == [0, 0]


@pytest.mark.parametrize("trouble", ["job", "backend"])
def test_a_pinned_tile_stays_where_it_is(two: Callable[..., Fleet], trouble: str) -> None:
    fleet = two(tiles=1, max_attempts=2, columns='{"backend_name": "local"}')
    if trouble == "backend":
        fleet.start_with(lambda connection, **_: connection.get("/collections/NOPE"))
        fleet.step("t0")
        assert (fleet.tile("t0").status, fleet.tile("t0").error_class) == (S.FAILED, "backend")
        return
    titled(fleet, lambda *_: "fail:Internal")
    assert attempt(fleet).avoid == ""
    tile = attempt(fleet)
    assert (tile.status, tile.backend, tile.attempt) == (S.FAILED, "local", 2)


def test_a_refused_tile_goes_to_the_back_end_that_answers(two: Callable[..., Fleet]) -> None:
    fleet = two(tiles=1)

    def start_job(connection: Any, provider: str, **_: Any) -> Any:
        if provider == "second":
            fleet.sandbox.behave(rate_limit=0.001, retry_after=600)
            connection.session.get(fleet.sandbox.url)  # the one request that the rate limit allows
        return connection.create_job(GRAPH, title="x")

    fleet.start_with(start_job)
    fleet.step("t0")
    fleet.sandbox.reset(fast=True)
    assert (fleet.tile("t0").status, fleet.due_in("t0")) == (S.NOT_STARTED, None)
    fleet.tick()
    assert fleet.tile("t0").backend == "local"
    assert fleet.tile("t0").attempt == 1


# Other job options


def test_each_attempt_out_of_memory_gets_the_next_job_options(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=1, max_attempts=4, escalate=[{"memory": "4G"}, {"memory": "8G", "cores": 2}])
    titled(fleet, lambda *_: "fail:OOM", job_options={"memory": "2G", "logging": "x"})
    for _ in range(4):
        tile = attempt(fleet)
    connection = fleet.context.connection("local")
    sent = [connection.job(job["id"]).describe()["job_options"] for job in reversed(fleet.jobs("t0"))]
    assert sent == [
        {"memory": "2G", "logging": "x"},
        {"memory": "4G", "logging": "x"},
        {"memory": "8G", "cores": 2, "logging": "x"},
        {"memory": "8G", "cores": 2, "logging": "x"},
    ]
    assert (tile.status, tile.escalation) == (S.FAILED, 2)


def test_fewer_job_options_than_a_tile_came_to(make_fleet: Callable[..., Fleet]) -> None:
    """The user enqueued the campaign again with a shorter list."""
    fleet = make_fleet(tiles=2, escalate=[{"memory": "4G"}])
    fleet.sandbox.behave(queue_seconds=60.0)
    fleet.store.transition(fleet.tile("t0"), S.NOT_STARTED, escalation=3)
    fleet.step("t0")
    job = fleet.context.connection("local").job(fleet.tile("t0").job_id)
    assert job.describe()["job_options"] == {"memory": "4G"}
    fleet.store.redis.hset(fleet.store.key("c", fleet.name, "meta"), "escalate", "[]")
    fleet.store.transition(fleet.tile("t1"), S.NOT_STARTED, escalation=1)
    fleet.step("t1")
    assert fleet.tile("t1").status is S.QUEUED


def test_the_users_rules_come_first(make_fleet: Callable[..., Fleet]) -> None:
    rules = [
        {"error_class": "data", "match": "used too much memory"},
        {"error_class": "capacity", "status": 404, "code": "CollectionNotFound"},
    ]
    fleet = make_fleet(tiles=2, rules=rules)
    titled(fleet, lambda *_: "fail:OOM")
    tile = attempt(fleet)
    assert (tile.status, tile.attempt, tile.error_class) == (S.FAILED, 1, "data")
    fleet.start_with(lambda connection, **_: connection.get("/collections/NOPE"))
    fleet.step("t1")
    assert (fleet.tile("t1").status, fleet.tile("t1").error_class) == (S.NOT_STARTED, "capacity")
    assert fleet.store.backend("local").paused


# Time limits


@pytest.mark.parametrize("status", ["running", "queued"])
@pytest.mark.parametrize("silent", [False, True])
def test_a_job_that_takes_too_long_is_canceled(make_fleet: Callable[..., Fleet], status: str, *, silent: bool) -> None:
    fleet = make_fleet(tiles=1, max_attempts=2, **{f"cancel_{status}_job_after": 100.0})
    fleet.sandbox.behave(**{"queue_seconds" if status == "queued" else "job_seconds": 60.0})
    for number in (1, 2):
        fleet.step("t0")
        fleet.job_is("t0", status)
        track(fleet.context, "local")
        tile = fleet.tile("t0")
        assert (tile.status, tile.attempt) == (S(status), number)
        fleet.store.redis.hincrbyfloat(fleet.store.key("c", fleet.name, "t", "t0"), "since", -101)
        if silent:  # a worker canceled it and ended before it said so
            backend.cancel(fleet.context.connection("local"), tile.job_id)
        track(fleet.context, "local")
        assert fleet.jobs("t0")[0]["status"] == "canceled"
    tile = fleet.tile("t0")
    assert (tile.status, tile.error_class, tile.attempt) == (S.FAILED, "timeout", 2)
    assert f"cancel_{status}_job_after" in tile.error
    assert fleet.store.backend("local").started == 0


def test_a_job_in_time_is_left_alone_and_one_canceled_by_somebody_is_the_users(
    make_fleet: Callable[..., Fleet],
) -> None:
    fleet = make_fleet(tiles=1, cancel_running_job_after=100.0, cancel_queued_job_after=100.0)
    fleet.sandbox.behave(queue_seconds=60.0)
    fleet.step("t0")
    track(fleet.context, "local")
    assert fleet.jobs("t0")[0]["status"] == "queued"
    backend.cancel(fleet.context.connection("local"), fleet.tile("t0").job_id)
    track(fleet.context, "local")
    assert fleet.tile("t0").status is S.CANCELED


# The same for all


def raising(fleet: Fleet, message: Callable[[Any], str]) -> None:
    def start_job(row: Any, **_: Any) -> Any:
        if text := message(row):
            raise KeyError(text)

    fleet.start_with(start_job)


@pytest.mark.parametrize("stop_after", [3, 0])
def test_first_tiles_that_all_fail_the_same_way_pause_the_campaign(
    make_fleet: Callable[..., Fleet], stop_after: int
) -> None:
    fleet = make_fleet(tiles=5, stop_after=stop_after)
    raising(fleet, lambda row: row.tile_id)
    for number in range(5):
        paused = fleet.context.controls.get(fleet.name).paused
        assert bool(paused) is (0 < stop_after <= number)
        fleet.step(f"t{number}")
    assert fleet.store.counts(fleet.name).get(S.FAILED) == (stop_after or 5)
    if stop_after:
        assert "KeyError: 't2'" in paused
        fleet.context.controls.put(fleet.name, paused="")
        fleet.context.controls.forget_errors(fleet.name)
        fleet.tick()
        assert fleet.store.counts(fleet.name) == {S.FAILED: 5}


def test_a_tile_that_came_further_keeps_the_campaign_going(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=5, stop_after=3)
    raising(fleet, lambda row: "" if row.tile_id == "t0" else "x")
    for number in range(5):
        fleet.step(f"t{number}")
    assert fleet.store.counts(fleet.name) == {S.SKIPPED: 1, S.FAILED: 4}
    assert not fleet.context.controls.get(fleet.name).paused


def test_different_exceptions_do_not_pause_the_campaign(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=4, stop_after=2)

    def start_job(row: Any, **_: Any) -> Any:
        raise (KeyError, ValueError, TypeError, IndexError)[row.number]("x")

    fleet.start_with(start_job)
    for number in range(4):
        fleet.step(f"t{number}")
    assert not fleet.context.controls.get(fleet.name).paused


def test_another_worker_that_pauses_the_campaign_leaves_what_it_holds(store: TileStore) -> None:
    """A tile that is being created when the pause comes is recorded and waits."""
    store.put_backend("b", {"name": "b", "url": "http://x", "parallel_jobs": 1, "prepared_jobs": 0})
    store.add_tiles([Tile("c", "t0")], ["b"])
    held = store.claim(Tile("c", "t0"), 60, S.SUBMITTING, room="take", backends=["b"], attempt=1)
    Controls(store).put("c", paused="x")
    created = store.transition(held, S.CREATED, holder=held.holder, due=60, room="start", job_id="j")
    with contextlib.suppress(TransitionLost):
        assert not store.claim(created, 60, room="start").holder
    assert (store.backend("b").ready, store.backend("b").started) == (1, 0)
