"""Steering a campaign: pause, resume, budget, pilot, priority, live limits, and which tiles a retry means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from campaign.control import Control
from campaign.errors import InvalidInput
from campaign.spec import load_campaign
from campaign.tile import Step, TileStatus
from producer import control, report
from producer.enqueue import enqueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Fleet

S = TileStatus


def begun(fleet: Fleet) -> set[str]:
    """Tiles that are past their wait."""
    return {tile.id for tile in fleet.store.tiles(fleet.name) if tile.status is not S.NOT_STARTED}


def again(fleet: Fleet) -> None:
    """Enqueue the campaign file as it is now."""
    enqueue(load_campaign(fleet.path), fleet.store, fleet.settings.redis_url, fleet.settings.workdir)


def delivered(fleet: Fleet, tile_id: str) -> None:
    """Bring a tile to its end."""
    if fleet.tile(tile_id).status in {S.NOT_STARTED, S.QUEUED, S.RUNNING}:  # else only its results are left
        fleet.finished(tile_id)
    while fleet.tile(tile_id).next_step is not None:
        fleet.step(tile_id)
    assert fleet.tile(tile_id).status is S.PUBLISHED


def test_a_paused_campaign_begins_nothing_and_delivers_what_is_begun(fleet: Fleet) -> None:
    fleet.step("t0")
    control.pause(fleet.store, fleet.meta)
    assert fleet.step("t1") == []
    fleet.tick()
    assert begun(fleet) == {"t0"}
    delivered(fleet, "t0")
    fleet.tick()
    assert begun(fleet) == {"t0"}
    assert report.status(fleet.store, fleet.meta)["held"] == "paused: by the user"
    control.resume(fleet.store, fleet.meta)
    fleet.tick()
    assert begun(fleet) == {"t0", "t1", "t2"}


def test_a_pause_keeps_prepared_jobs_from_being_started(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(parallel_jobs=1, prepared_jobs=1)
    fleet.sandbox.behave(job_seconds=0.3)
    fleet.step("t0")
    fleet.step("t1")
    assert fleet.tile("t1").status is S.CREATED
    control.pause(fleet.store, fleet.meta)
    fleet.finished("t0")
    fleet.tick()
    assert fleet.tile("t1").status is S.CREATED
    assert fleet.jobs("t1")[0]["status"] == "created"
    control.resume(fleet.store, fleet.meta)
    fleet.tick()
    assert fleet.tile("t1").status is S.QUEUED
    assert len(fleet.jobs("t1")) == 1


def test_a_paused_campaign_leaves_the_room_to_others(make_fleet: Callable[..., Fleet]) -> None:
    first = make_fleet(name="first", parallel_jobs=1)
    second = make_fleet(name="second", parallel_jobs=1)
    control.pause(first.store, first.meta)
    for tile in ("t0", "t1", "t2"):
        first.step(tile)
    second.tick()
    assert (begun(first), begun(second)) == (set(), {"t0"})


def test_a_stopped_back_end_takes_no_jobs(fleet: Fleet) -> None:
    fleet.step("t0")
    control.stop_backend(fleet.store, "local", stop=True)
    fleet.step("t1")
    fleet.tick()
    assert begun(fleet) == {"t0"}
    delivered(fleet, "t0")
    again(fleet)
    fleet.tick()
    assert begun(fleet) == {"t0"}
    assert report.status(fleet.store, fleet.meta)["backends"]["local"]["stopped"] == "by the user"
    control.stop_backend(fleet.store, "local", stop=False)
    fleet.tick()
    assert begun(fleet) == {"t0", "t1", "t2"}


def test_unknown_names_are_refused(fleet: Fleet) -> None:
    with pytest.raises(InvalidInput, match="no back-end 'other'; there are: local"):
        control.stop_backend(fleet.store, "other", stop=True)
    with pytest.raises(InvalidInput, match="no back-end 'other'"):
        control.limit_backend(fleet.store, "other", {"parallel_jobs": "3"})


def test_limits_change_while_a_campaign_runs(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=30.0)
    fleet.tick()
    assert len(begun(fleet)) == 2
    connection = fleet.context.connection("local")
    now = control.limit_backend(fleet.store, "local", {"parallel_jobs": "3", "requests_per_second": "50"})
    assert (now.parallel_jobs, now.requests_per_second, now.auth) == (3, 50.0, "basic")
    fleet.tick()
    assert len(begun(fleet)) == 3
    assert fleet.context.connection("local") is connection
    assert control.limit_backend(fleet.store, "local", {"requests_per_second": ""}).requests_per_second is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "http://x"}, "url: cannot be changed; what can: parallel_jobs"),
        ({"parallel_jobs": "many"}, "back-end local: Backend: parallel_jobs: "),
        ({"parallel_jobs": "0"}, "parallel_jobs: Input should be greater than or equal to 1"),
    ],
)
def test_limits_that_do_not_fit_are_refused(fleet: Fleet, changes: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        control.limit_backend(fleet.store, "local", changes)
    assert fleet.store.backend("local").parallel_jobs == 2


def test_a_budget_is_not_exceeded(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=8, parallel_jobs=1, prepared_jobs=2)
    delivered(fleet, "t0")
    cost = fleet.store.control(fleet.name).spent
    assert cost > 0
    fleet.store.redis.hset(fleet.store.key("c", fleet.name, "control"), "budget", 3.5 * cost)
    for _ in range(12):
        fleet.tick()
        for tile in list(fleet.store.tiles(fleet.name)):
            if tile.status in {S.NOT_STARTED, S.CREATED}:  # a message of the step before was not acted on here
                fleet.step(tile.id)
            elif tile.status in {S.QUEUED, S.RUNNING, S.FINISHED}:
                delivered(fleet, tile.id)
    state = fleet.store.control(fleet.name)
    assert (state.spent, state.jobs_paid) == (3 * cost, 3)
    assert fleet.store.counts(fleet.name)[S.PUBLISHED] == 3
    assert state.holds().startswith(f"budget: {3 * cost:g} of {3.5 * cost:g} credits are spent, a job costs about")
    assert fleet.store.counts(fleet.name).get(S.QUEUED, 0) == 0
    with pytest.raises(InvalidInput, match="give a larger one with --budget"):
        control.resume(fleet.store, fleet.meta)
    control.resume(fleet.store, fleet.meta, budget=100 * cost)
    fleet.tick()
    assert fleet.store.counts(fleet.name)[S.QUEUED] == 1


@pytest.mark.parametrize("unpaid", [0, 2])
@pytest.mark.parametrize("budget", [10.0, 14.9, 15.0, 25.0])
@pytest.mark.parametrize("known", [{}, {"spent": 10.0, "jobs_paid": 2}, {"estimated": 8.0, "jobs_estimated": 2}])
def test_the_store_and_the_status_agree_on_the_budget(
    make_fleet: Callable[..., Fleet], unpaid: int, budget: float | None, known: dict[str, float]
) -> None:
    fleet = make_fleet(tiles=5, parallel_jobs=9)
    fleet.sandbox.behave(queue_seconds=60.0)
    for number in range(unpaid):
        fleet.step(f"t{number}")
    fleet.context.controls.put(fleet.name, estimated=None, jobs_estimated=None)
    fleet.context.controls.put(fleet.name, budget=budget, **known)
    fleet.step("t4")
    may = fleet.tile("t4").status is S.QUEUED
    assert may is Control(budget=budget, **known).may_spend(unpaid)  # type: ignore[arg-type]


def test_a_pilot_runs_alone_until_it_is_published(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=5, parallel_jobs=4, pilot=2)
    fleet.tick()
    assert begun(fleet) == {"t0", "t1"}
    delivered(fleet, "t0")
    fleet.tick()
    assert begun(fleet) == {"t0", "t1"}
    delivered(fleet, "t1")
    fleet.tick()
    assert begun(fleet) == {"t0", "t1", "t2", "t3", "t4"}


def test_a_pilot_that_fails_keeps_the_others_back(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=4, parallel_jobs=4, pilot=2, max_attempts=1)
    fleet.sandbox.behave(failing_jobs=1.0, failure="Internal")
    fleet.tick()
    fleet.job_is("t0", "error")
    fleet.job_is("t1", "error")
    fleet.step("t0")
    fleet.tick()
    assert begun(fleet) == {"t0", "t1"}
    says = "pilot: 2 of its 2 tiles were not published"
    assert report.status(fleet.store, fleet.meta)["held"] == says
    assert any(line.startswith(says) for line in report.lines(fleet.store, fleet.meta))
    fleet.sandbox.behave(failing_jobs=0.0)
    failed = control.Choice(S.FAILED).tiles(fleet.store, fleet.meta)
    assert control.retry(fleet.store, fleet.settings.redis_url, fleet.meta, failed) == 2
    delivered(fleet, "t0")
    delivered(fleet, "t1")
    fleet.tick()
    assert begun(fleet) == {"t0", "t1", "t2", "t3"}


def test_a_failed_pilot_can_be_passed_over(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=3, parallel_jobs=3, pilot=1, max_attempts=1)
    fleet.store.transition(fleet.tile("t0"), S.CANCELED, anyone=True, room="free")
    fleet.tick()
    assert begun(fleet) == {"t0"}
    control.resume(fleet.store, fleet.meta)
    fleet.tick()
    assert begun(fleet) == {"t0", "t1", "t2"}


def test_a_pause_does_not_end_a_pilot(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=3, parallel_jobs=3, pilot=1)
    control.pause(fleet.store, fleet.meta)
    fleet.tick()
    assert begun(fleet) == set()
    control.resume(fleet.store, fleet.meta)
    fleet.tick()
    assert begun(fleet) == {"t0"}


def test_a_budget_of_the_users_outlives_another_run(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(budget=5.0)
    control.resume(fleet.store, fleet.meta, budget=50.0)
    again(fleet)
    assert fleet.store.control(fleet.name).budget == 50.0
    fleet.path.write_text(fleet.path.read_text().replace("'budget': 5.0", "'budget': 70.0"))
    again(fleet)
    assert fleet.store.control(fleet.name).budget == 70.0


def order_of(fleet: Fleet) -> list[str]:
    """The order in which tiles come when one has room at a time."""
    fleet.start_with(lambda **_: None)
    done = [tile.id for tile in fleet.context.limits.wake("local")]
    while messages := fleet.step(done[-1]):
        done += [message.kwargs["tile"] for message in messages]
    return done


def test_tiles_come_by_priority(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=5, parallel_jobs=1, columns='{"urgency": [1, 3, 2, 3, 0]}', priority="urgency")
    assert order_of(fleet) == ["t1", "t3", "t2", "t0", "t4"]


def test_a_function_gives_the_priority(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(
        tiles=4, parallel_jobs=1, code="\ncampaign = campaign.model_copy(update={'priority': lambda row: row.number})"
    )
    assert order_of(fleet) == ["t3", "t2", "t1", "t0"]


def test_random_order_is_the_same_in_each_run(make_fleet: Callable[..., Fleet], store: Any) -> None:
    fleet = make_fleet(name="mixed", tiles=20, parallel_jobs=1, shuffle=True)
    first = order_of(fleet)
    assert sorted(first) == sorted(f"t{number}" for number in range(20))
    assert first != [f"t{number}" for number in range(20)]
    store.redis.flushdb()
    (fleet.folder / "campaign.json").unlink()
    assert order_of(make_fleet(name="mixed", tiles=20, parallel_jobs=1, shuffle=True)) == first


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"priority": "nothing"}, "priority: the table has no column 'nothing'; it has tile_id"),
        ({"priority": "tile_id"}, "priority, row 0: 't0' is not a number"),
        ({"priority": "gaps", "columns": '{"gaps": [1.0, None, 2.0]}'}, "priority, row 1: nan is not a number"),
    ],
)
def test_a_priority_that_is_none_is_refused(make_fleet: Callable[..., Fleet], words: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        make_fleet(**words)


def test_a_function_that_raises_is_named_with_its_line(make_fleet: Callable[..., Fleet]) -> None:
    code = "\ncampaign = campaign.model_copy(update={'priority': lambda row: row.nothing})"
    with pytest.raises(InvalidInput, match=r"priority, row 0: .*campaign.py, line \d+: AttributeError"):
        make_fleet(code=code)


def test_retry_takes_only_what_is_chosen(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=4)
    for number, (error_class, step) in enumerate(
        [("data", "track"), ("user_code", "submit"), ("data", "postprocess"), ("job", "track")]
    ):
        tile = fleet.store.transition(fleet.tile(f"t{number}"), S.SUBMITTING, room="take", backends=["local"])
        fleet.store.transition(tile, S.FAILED, room="free", error_class=error_class, failed_step=step, error="x")

    def chosen(**words: Any) -> list[str]:
        return [tile.id for tile in control.Choice(S.FAILED, **words).tiles(fleet.store, fleet.meta)]

    assert chosen() == ["t0", "t1", "t2", "t3"]
    assert chosen(classes=frozenset({"data"})) == ["t0", "t2"]
    assert chosen(classes=frozenset({"data", "job"}), failed_step=Step.TRACK) == ["t0", "t3"]
    assert chosen(ids=frozenset({"t1"}), classes=frozenset({"data"})) == []
    with pytest.raises(InvalidInput, match="--class sea: there is no such class; there are auth, backend"):
        chosen(classes=frozenset({"sea"}))
    with pytest.raises(InvalidInput, match=r"--id t9: campaign .* has no such tile"):
        chosen(ids=frozenset({"t9"}))


def test_a_mended_file_ends_an_early_stop(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=8, parallel_jobs=8, code="\ndef start_job(row, **kwargs):\n    return row['nothing']\n")
    fleet.tick()
    held = fleet.store.control(fleet.name)
    assert held.paused.startswith(
        "user_code: each of the first 5 tiles failed with the same error: KeyError: 'nothing'"
    )
    again(fleet)
    assert fleet.store.control(fleet.name).paused
    fleet.path.write_text(fleet.path.read_text().replace("return row['nothing']", "return None"))
    again(fleet)
    assert fleet.store.control(fleet.name).paused == ""
