"""retry and cancel: what a user does to tiles while workers are at it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from campaign.tile import Step, Tile, TileStatus
from producer import control

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Fleet

S = TileStatus
GRAPH: dict[str, Any] = {"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}


def retry(fleet: Fleet, *tiles: Tile) -> int:
    return control.retry(fleet.store, fleet.settings.redis_url, fleet.meta, tiles or [fleet.tile()])


def slots(fleet: Fleet) -> set[str]:
    return {tile.id for tile in fleet.context.store.tiles_on("local")}


def sent(fleet: Fleet, step: Step) -> list[str]:
    """Tiles in the queue of a step, oldest first; enqueue's own messages come first."""
    raw = fleet.store.redis.lrange(fleet.store.key("celery:") + step, 0, -1)
    bodies = [json.loads(base64.b64decode(json.loads(message)["body"])) for message in reversed(raw)]
    return [body[1]["tile"] for body in bodies]


def fails_at(fleet: Fleet, step: Step) -> Tile:
    """A tile that failed at `step`."""
    tile = fleet.tile()
    if step is Step.SUBMIT:
        good = fleet.context.hooks(fleet.meta).start_job
        fleet.start_with(lambda **_: 1 / 0)
        fleet.step()
        fleet.start_with(good)
    elif step is Step.TRACK:
        good = fleet.context.hooks(fleet.meta).start_job
        fleet.start_with(lambda connection, **_: connection.create_job(GRAPH, title="fail:NoDataAvailable"))
        fleet.step()
        fleet.job_is("t0", "error")
        fleet.step()
        fleet.start_with(good)
    elif step is Step.POSTPROCESS:
        fleet.finished()
        fleet.store.transition(fleet.tile(), S.FAILED, failed_step=step, error_class="data", error="x", tries=3)
    else:
        fleet.finished()
        fleet.step()
        fleet.store.transition(fleet.tile(), S.FAILED, failed_step=step, error_class="data", error="x", tries=3)
    tile = fleet.tile()
    assert (tile.status, tile.failed_step) == (S.FAILED, step)
    return tile


BACK_TO = {
    Step.SUBMIT: S.NOT_STARTED,
    Step.TRACK: S.NOT_STARTED,
    Step.POSTPROCESS: S.FINISHED,
    Step.PUBLISH: S.POSTPROCESSED,
}


@pytest.mark.parametrize("step", list(BACK_TO))
def test_retry_goes_back_to_the_step_that_failed(fleet: Fleet, step: Step) -> None:
    failed = fails_at(fleet, step)
    assert retry(fleet) == 1
    tile = fleet.tile()
    assert tile.status is BACK_TO[step]
    assert (tile.tries, tile.failed_step, tile.error_class, tile.error) == (0, "", "", "")
    if tile.status is S.NOT_STARTED:
        assert (tile.job_id, tile.backend, tile.attempts_before) == ("", "", failed.attempt)
        assert fleet.store.redis.zscore(fleet.store.key("b", "local", "waiting", fleet.name), tile.id) == tile.order
    else:
        assert tile.job_id == failed.job_id
    assert tile.next_step is not None
    assert "t0" in sent(fleet, tile.next_step)


@pytest.mark.parametrize("step", list(BACK_TO))
def test_a_retried_tile_comes_to_its_end_with_no_job_too_many(fleet: Fleet, step: Step) -> None:
    failed = fails_at(fleet, step)
    before = len(fleet.jobs("t0"))
    retry(fleet)
    if fleet.tile().status is S.NOT_STARTED:
        fleet.store.redis.delete(fleet.store.key("b", "local", "slots"))
        fleet.finished()
    while fleet.tile().status is not S.PUBLISHED:
        fleet.step()
    assert len(fleet.jobs("t0")) == before + (step in {Step.SUBMIT, Step.TRACK})
    assert fleet.tile().attempt == failed.attempt + (step in {Step.SUBMIT, Step.TRACK})


def test_retry_gives_all_attempts_again(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=1, max_attempts=2)
    fleet.start_with(lambda connection, **_: connection.create_job(GRAPH, title="fail:OOM"))
    for attempts in (2, 4):
        while fleet.tile().status is not S.FAILED:
            fleet.step()
            fleet.job_is("t0", "error")
            fleet.step()
        assert fleet.tile().attempt == attempts
        retry(fleet)
    assert fleet.tile().attempts_before == 4
    assert len({job["title"] for job in fleet.jobs()}) == 4


def test_retry_of_a_pinned_tile_keeps_its_back_end(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(columns='{"backend_name": ["local"] * 3}')
    fails_at(fleet, Step.SUBMIT)
    retry(fleet)
    assert (fleet.tile().backend, fleet.tile().pinned) == ("local", True)


def test_two_users_who_retry_at_once_send_it_once(fleet: Fleet) -> None:
    failed = fails_at(fleet, Step.SUBMIT)
    assert retry(fleet, failed, failed) == 1
    assert retry(fleet, failed) == 0


def test_retry_of_a_skipped_tile(fleet: Fleet) -> None:
    fleet.start_with(lambda **_: None)
    fleet.step()
    assert fleet.tile().status is S.SKIPPED
    retry(fleet)
    assert (fleet.tile().status, fleet.tile().attempts_before) == (S.NOT_STARTED, 1)


def test_cancel_frees_slots_and_stops_jobs(fleet: Fleet) -> None:
    fleet.sandbox.behave(job_seconds=60.0)
    fleet.step("t0")
    fleet.step("t1")
    fleet.job_is("t0", "running")
    assert slots(fleet) == {"t0", "t1"}
    canceled, problems = control.cancel(fleet.store, fleet.meta)
    assert (canceled, problems) == (3, [])
    assert fleet.store.counts(fleet.name) == {S.CANCELED: 3}
    assert slots(fleet) == set()
    assert fleet.store.backend("local").waiting == 0
    assert [job["status"] for job in fleet.jobs()] == ["canceled", "canceled"]
    assert control.cancel(fleet.store, fleet.meta) == (0, [])


def test_cancel_leaves_what_is_done(fleet: Fleet) -> None:
    fleet.finished()
    fleet.step()
    fleet.step()
    canceled, _ = control.cancel(fleet.store, fleet.meta)
    assert canceled == 2
    assert fleet.tile().status is S.PUBLISHED


def test_cancel_tells_when_jobs_cannot_be_stopped(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=60.0)
    fleet.step()
    fleet.moves_to("http://127.0.0.1:9/openeo/1.2")
    canceled, (problem,) = control.cancel(fleet.store, fleet.meta)
    assert canceled == 3
    assert "local" in problem
    assert "does not answer" in problem


def test_cancel_takes_no_offence_at_jobs_that_are_gone(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=60.0)
    fleet.step()
    fleet.context.connection("local").job(fleet.tile().job_id).delete()
    assert control.cancel(fleet.store, fleet.meta) == (3, [])


def test_a_job_that_could_not_be_stopped_is_stopped_the_next_time(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=60.0)
    fleet.step()
    fleet.moves_to("http://127.0.0.1:9/openeo/1.2")
    assert len(control.cancel(fleet.store, fleet.meta)[1]) == 1
    assert fleet.jobs()[0]["status"] == "queued"
    fleet.moves_to(fleet.sandbox.url)
    assert control.cancel(fleet.store, fleet.meta) == (0, [])
    assert fleet.jobs()[0]["status"] == "canceled"


@pytest.mark.parametrize(
    ("step", "status"),
    [(Step.SUBMIT, S.NOT_STARTED), (Step.POSTPROCESS, S.FINISHED), (Step.PUBLISH, S.POSTPROCESSED)],
)
def test_retry_from_a_step_of_the_users_choice(fleet: Fleet, step: Step, status: TileStatus) -> None:
    failed = fails_at(fleet, Step.PUBLISH)
    assert control.retry(fleet.store, fleet.settings.redis_url, fleet.meta, [failed], step) == 1
    assert fleet.tile().status is status
    assert fleet.tile().job_id == ("" if step is Step.SUBMIT else failed.job_id)


@pytest.mark.parametrize("step", [Step.POSTPROCESS, Step.PUBLISH])
def test_a_tile_that_never_came_so_far_stays_as_it_is(fleet: Fleet, step: Step) -> None:
    failed = fails_at(fleet, Step.TRACK)
    assert control.retry(fleet.store, fleet.settings.redis_url, fleet.meta, [failed], step) == 0
    assert fleet.tile() == failed


def test_retry_ends_the_pause_of_the_back_end(fleet: Fleet) -> None:
    failed = fails_at(fleet, Step.SUBMIT)
    fleet.context.pauses.pause("local", 600, "auth: refused")
    assert retry(fleet, failed) == 1
    assert not fleet.store.backend("local").paused


def test_a_canceled_tile_starts_anew(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=60.0)
    fleet.step()
    control.cancel(fleet.store, fleet.meta)
    fleet.sandbox.reset(fast=True)
    assert retry(fleet) == 1
    fleet.finished()
    assert fleet.tile().attempt == 2


def test_a_tile_canceled_after_its_job_was_done_gets_no_second_one(fleet: Fleet) -> None:
    done = fleet.finished()
    control.cancel(fleet.store, fleet.meta)
    retry(fleet)
    assert (fleet.tile().status, fleet.tile().job_id) == (S.FINISHED, done.job_id)
