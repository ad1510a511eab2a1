"""What a campaign spends is what its tiles say, and how the tracker looks at jobs that lists do not show."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign.control import Controls
from campaign.errors import NoRoom, TransitionLost
from campaign.tile import NEXT_STEP, Step, Tile, TileStatus
from workers import backend
from workers.connection import FleetConnection
from workers.track import DESCRIBED, track

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign.store import TileStore
    from tests.integration.conftest import Fleet

S = TileStatus
TILES = 3
GRAPH: dict[str, Any] = {"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}
COSTS = (None, 0.0, 0.1, 0.2, 3.0, 1e-9, 12345.678)
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "finish", "fail", "again", "deliver", "deliver", "cancel", "retry"]),
        st.integers(0, TILES - 1),
        st.sampled_from(COSTS),
    ),
    min_size=10,
    max_size=40,
)


class Spending:
    """The moves of a tile that have to do with costs, and the jobs that were charged for."""

    def __init__(self, store: TileStore) -> None:
        self.store = store
        self.charged: set[tuple[str, int]] = set()

    def go(self, act: str, number: int, costs: float | None) -> None:
        tile = self.store.get("c", f"t{number}")
        assert tile is not None
        with contextlib.suppress(NoRoom, TransitionLost):
            getattr(self, act)(tile, costs)

    def pay(self, tile: Tile, costs: float | None) -> None:
        self.charged.discard((tile.id, tile.attempt))
        if costs:
            self.charged.add((tile.id, tile.attempt))

    def submit(self, tile: Tile, _: float | None) -> None:
        if tile.status is S.NOT_STARTED:
            words: dict[str, Any] = {"room": "take", "backends": ["b"], "attempt": tile.attempt + 1}
            spent = tile.spent + (tile.costs or 0.0)
            held = self.store.claim(tile, 60, S.SUBMITTING, costs=None, spent=spent, **words)
            self.store.transition(held, S.CREATED, room="started", job_id="j")

    def finish(self, tile: Tile, _: float | None) -> None:
        if tile.status is S.CREATED:
            self.store.transition(tile, S.FINISHED, room="free")

    def fail(self, tile: Tile, costs: float | None) -> None:
        if tile.status is S.CREATED:
            self.store.transition(tile, S.FAILED, room="free", costs=costs)
            self.pay(tile, costs)

    def again(self, tile: Tile, costs: float | None) -> None:
        if tile.status is S.CREATED:
            spent = tile.spent + (costs or 0.0)
            self.store.transition(tile, S.NOT_STARTED, room="wait", backends=["b"], job_id="", spent=spent)
            self.pay(tile, costs)

    def deliver(self, tile: Tile, costs: float | None) -> None:
        """Results may be delivered again, and the back-end may have changed its mind."""
        if tile.status in {S.FINISHED, S.POSTPROCESSED}:
            self.store.transition(tile, S.POSTPROCESSED, costs=costs)
            self.pay(tile, costs)

    def cancel(self, tile: Tile, _: float | None) -> None:
        if tile.status in NEXT_STEP:
            self.store.transition(tile, S.CANCELED, anyone=True, room="free")

    def retry(self, tile: Tile, _: float | None) -> None:
        if tile.status in {S.CANCELED, S.FAILED}:
            self.store.transition(tile, S.NOT_STARTED, room="wait", backends=["b"], job_id="")


@given(moves=MOVES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_campaign_spends_what_its_tiles_cost(store: TileStore, moves: list[tuple[str, int, float | None]]) -> None:
    for key in store.redis.scan_iter(f"{store.namespace}:*"):
        store.redis.delete(key)
    store.put_backend("b", {"name": "b", "url": "http://x", "parallel_jobs": TILES})
    store.add_tiles([Tile("c", f"t{number}", order=number) for number in range(TILES)], ["b"])
    spending = Spending(store)
    for move in moves:
        spending.go(*move)
        control = Controls(store).get("c")
        total = sum((tile.costs or 0.0) + tile.spent for tile in store.tiles("c"))
        assert control.spent == pytest.approx(total, abs=1e-9)
        assert control.jobs_paid == len(spending.charged)


def test_the_costs_of_real_jobs_are_summed_up(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=2)
    for name in ("t0", "t1"):
        fleet.finished(name)
        fleet.step(name)
    costs = [fleet.tile(name).costs for name in ("t0", "t1")]
    control = fleet.context.controls.get(fleet.name)
    assert None not in costs
    assert (control.spent, control.jobs_paid) == (sum(cost or 0.0 for cost in costs), 2)


def test_what_a_job_that_was_canceled_for_its_time_cost_is_kept(
    make_fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = make_fleet(tiles=1, cancel_queued_job_after=100.0)
    fleet.sandbox.behave(queue_seconds=60.0)
    fleet.step("t0")
    plain = FleetConnection.job

    def charged(connection: Any, job_id: str) -> Any:
        job = plain(connection, job_id)
        known = job.describe()
        job.describe = lambda: known | {"costs": 2.5}
        return job

    monkeypatch.setattr(FleetConnection, "job", charged)
    fleet.store.redis.hincrbyfloat(fleet.store.key("c", fleet.name, "t", "t0"), "since", -101)
    track(fleet.context, "local")
    assert (fleet.tile("t0").error_class, fleet.tile("t0").spent) == ("timeout", 2.5)
    assert fleet.context.controls.get(fleet.name).spent == 2.5


def test_the_first_jobs_are_estimated_where_the_back_end_can(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=5, parallel_jobs=5)
    fleet.sandbox.behave(estimates=True, queue_seconds=60.0)
    fleet.sandbox.clear_stats()
    for number in range(5):
        fleet.step(f"t{number}")
    control = fleet.context.controls.get(fleet.name)
    assert control.jobs_estimated == 3
    assert control.cost_per_job == pytest.approx(control.estimated / 3)
    assert fleet.sandbox.stats()["requests"]["GET /jobs/{job}/estimate"] == 3


@pytest.mark.parametrize("answer", [[], {"costs": "many"}, {}, None])
def test_an_estimate_that_is_none_does_not_disturb(fleet: Fleet, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = FleetConnection.get

    def get(connection: Any, path: str, **words: Any) -> Any:
        response = plain(connection, "/" if path.endswith("/estimate") else path, **words)
        if path.endswith("/estimate"):
            response._content = json.dumps(answer).encode()
        return response

    monkeypatch.setattr(FleetConnection, "get", get)
    fleet.step("t0")
    assert fleet.tile("t0").status is S.QUEUED
    assert fleet.context.controls.get(fleet.name).jobs_estimated == 0


# Looks


def next_look(fleet: Fleet) -> float:
    at = fleet.store.redis.hget(fleet.store.key("b", "local"), "track_at")
    return float(at or 0) - fleet.store.now()


def test_the_next_look_comes_when_a_job_should_end(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=2, poll_interval=10)
    fleet.sandbox.behave(queue_seconds=60.0)
    for name in ("t0", "t1"):
        fleet.step(name)
    fleet.store.redis.hset(fleet.store.key("b", "local"), mapping={"quiet": 30})
    track(fleet.context, "local")
    assert next_look(fleet) == pytest.approx(60, abs=1)
    fleet.context.limits.job_took("local", 25.0)
    track(fleet.context, "local")
    assert next_look(fleet) == pytest.approx(25, abs=2)
    fleet.store.transition(fleet.tile("t0"), S.QUEUED, started_at=fleet.store.now() - 22)
    fleet.store.transition(fleet.tile("t1"), S.QUEUED, started_at=fleet.store.now() - 500)
    track(fleet.context, "local")
    assert next_look(fleet) == pytest.approx(10, abs=1)  # never sooner than the back-end allows


def test_jobs_that_no_list_shows_take_turns(make_fleet: Callable[..., Fleet]) -> None:
    count = DESCRIBED + 5
    fleet = make_fleet(tiles=count, parallel_jobs=count)
    for number in range(count):
        fleet.step(f"t{number}")
    for number in range(count):
        fleet.job_is(f"t{number}", "finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "job_pages", lambda *_: iter([[]]))
        fleet.sandbox.clear_stats()
        track(fleet.context, "local")
        assert fleet.sandbox.stats()["requests"] == {"GET /jobs/{job}": DESCRIBED}
        assert fleet.store.counts(fleet.name) == {S.FINISHED: DESCRIBED, S.QUEUED: 5}
        track(fleet.context, "local")
    assert fleet.store.counts(fleet.name) == {S.FINISHED: count}
    assert fleet.store.backend("local").places == 0


@pytest.mark.parametrize("order", ["oldest first", "everything at once"])
def test_lists_in_another_order_and_without_pages(
    make_fleet: Callable[..., Fleet], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = make_fleet(tiles=4, parallel_jobs=4)
    connection = fleet.context.connection("local")
    for number in range(3):
        connection.create_job(GRAPH, title=f"foreign {number}")
    for number in range(4):
        fleet.step(f"t{number}")
    for number in range(4):
        fleet.job_is(f"t{number}", "finished")
    if order == "everything at once":
        fleet.sandbox.behave(ignore_limit=True)
    else:
        (page,) = list(backend.job_pages(connection, 1000))
        old_first = page[::-1][-7:]
        monkeypatch.setattr(backend, "job_pages", lambda *_: iter([old_first[:2], old_first[2:5], old_first[5:]]))
    messages = track(fleet.context, "local")
    assert fleet.store.counts(fleet.name) == {S.FINISHED: 4}
    assert [message.task for message in messages] == [Step.POSTPROCESS] * 4


def test_a_refusal_of_one_job_leaves_the_back_end_alone(
    make_fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list comes, the logs do not: why the job failed is asked for later."""
    fleet = make_fleet(tiles=1)
    fleet.start_with(lambda connection, **_: connection.create_job(GRAPH, title="fail:NoDataAvailable"))
    fleet.step("t0")
    fleet.job_is("t0", "error")
    pages = list(backend.job_pages(fleet.context.connection("local")))
    monkeypatch.setattr(backend, "job_pages", lambda *_: iter(pages))
    fleet.sandbox.behave(rate_limit=0.001, retry_after=70)
    fleet.context.connection("local").session.get(fleet.sandbox.url)
    track(fleet.context, "local")
    state = fleet.store.backend("local")
    assert fleet.tile("t0").status is S.QUEUED
    assert state.paused_until - fleet.store.now() == pytest.approx(70, abs=2)
    fleet.sandbox.reset(fast=True)
    fleet.unpause()
    track(fleet.context, "local")
    assert (fleet.tile("t0").status, fleet.tile("t0").error_class) == (S.FAILED, "data")
