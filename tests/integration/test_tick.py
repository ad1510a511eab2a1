"""tick: what is due is told, what was lost is told again, and nothing that is well is disturbed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from campaign.errors import TransitionLost
from campaign.message import TICK
from campaign.tile import Step, TileStatus
from workers import tasks
from workers.tick import tick

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign.message import Message
    from tests.integration.conftest import Fleet

S = TileStatus


def told(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message.task, message.kwargs.get("tile") or message.kwargs["backend"]) for message in messages]


def test_a_tick_wakes_as_many_tiles_as_there_is_room(fleet: Fleet) -> None:
    assert told(tick(fleet.context)) == [(Step.SUBMIT, "t0"), (Step.SUBMIT, "t1")]
    assert tick(fleet.context) == []


def test_a_tick_alone_brings_a_campaign_to_its_end(fleet: Fleet) -> None:
    """No message of the producer arrives, and each tick's are delivered: every tile is published."""
    deadline = time.monotonic() + 20
    while fleet.store.counts(fleet.name) != {S.PUBLISHED: 3}:
        fleet.tick()
        fleet.context.limits.track_in("local", 0)
        assert time.monotonic() < deadline, fleet.store.counts(fleet.name)
    assert len(fleet.jobs()) == 3
    assert fleet.store.backend("local").places == 0


def test_a_woken_tile_whose_message_is_lost_is_told_of_again(fleet: Fleet) -> None:
    tick(fleet.context)
    fleet.is_due("t0")
    assert told(tick(fleet.context)) == []
    fleet.store.redis.delete(fleet.store.key("celery:") + Step.SUBMIT)
    fleet.is_due("t0")
    assert told(tick(fleet.context)) == [(Step.SUBMIT, "t0")]
    assert tick(fleet.context) == []


@pytest.mark.parametrize("step", [Step.POSTPROCESS, Step.PUBLISH])
def test_a_lost_message_is_sent_again_unless_its_queue_is_full(fleet: Fleet, step: Step) -> None:
    fleet.finished()
    if step is Step.PUBLISH:
        fleet.step()
    queue = fleet.store.key("celery:") + step
    fleet.store.redis.rpush(queue, "another message")
    fleet.is_due()
    assert (step, "t0") not in told(tick(fleet.context))
    due = fleet.due_in()
    assert due is not None
    assert due > 10
    fleet.store.redis.delete(queue)
    fleet.is_due()
    assert (step, "t0") in told(tick(fleet.context))


@pytest.mark.parametrize("step", [Step.POSTPROCESS, Step.PUBLISH])
def test_the_tile_of_a_dead_worker_goes_on(fleet: Fleet, step: Step) -> None:
    """Also while other messages wait in the queue: its own was given out already."""
    fleet.finished()
    if step is Step.PUBLISH:
        fleet.step()
    fleet.store.redis.rpush(fleet.store.key("celery:") + step, "another message")
    before = fleet.tile()
    dead = fleet.store.claim(before, 0.01)
    time.sleep(0.02)
    fleet.tick()
    assert fleet.tile().status is S.PUBLISHED
    with pytest.raises(TransitionLost):
        fleet.store.transition(dead, S.FAILED)


@pytest.mark.parametrize("step", [Step.POSTPROCESS, Step.PUBLISH])
def test_a_tile_that_failed_is_told_of_after_its_wait_however_full_the_queue(fleet: Fleet, step: Step) -> None:
    fleet.finished()
    if step is Step.PUBLISH:
        fleet.step()
    tile = fleet.tile()
    fleet.store.transition(tile, tile.status, due=2, tries=1, error_class="transient")
    fleet.store.redis.rpush(fleet.store.key("celery:") + step, "another message")
    fleet.is_due()
    assert (step, "t0") in told(tick(fleet.context))


def test_a_tile_put_off_by_a_pause_is_told_of_after_it_however_full_the_queue(fleet: Fleet) -> None:
    fleet.finished()
    fleet.sandbox.behave(server_errors=1.0)
    fleet.step()
    fleet.sandbox.reset(fast=True)
    fleet.unpause()
    assert (fleet.tile().status, fleet.tile().error_class) == (S.FINISHED, "capacity")
    fleet.store.redis.rpush(fleet.store.key("celery:") + Step.POSTPROCESS, "another message")
    fleet.is_due()
    assert (Step.POSTPROCESS, "t0") in told(tick(fleet.context))


def test_a_dead_workers_tile_is_handed_on_once(fleet: Fleet) -> None:
    fleet.finished()
    fleet.store.claim(fleet.tile(), 0.01)
    time.sleep(0.02)
    other = fleet.worker()
    found = told(tick(fleet.context)) + told(tick(other))
    assert found.count((Step.POSTPROCESS, "t0")) == 1
    assert fleet.tile().holder == ""
    due = fleet.due_in()
    assert due is not None
    assert due > 25


def test_a_tile_that_is_held_is_not_told_of(fleet: Fleet) -> None:
    fleet.finished()
    fleet.store.claim(fleet.tile(), 60)
    assert (Step.POSTPROCESS, "t0") not in told(tick(fleet.context))


def test_a_back_end_is_looked_at_when_it_is_due(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=30.0)
    fleet.step("t0")
    assert (Step.TRACK, "local") in told(tick(fleet.context))
    assert (Step.TRACK, "local") not in told(tick(fleet.context))
    fleet.context.limits.track_in("local", 0)
    assert (Step.TRACK, "local") in told(tick(fleet.context))


def test_a_back_end_without_jobs_is_not_looked_at(fleet: Fleet) -> None:
    assert Step.TRACK not in {task for task, _ in told(tick(fleet.context))}


def test_a_back_end_without_credits_is_looked_at_and_wakes_nobody(fleet: Fleet) -> None:
    fleet.sandbox.behave(queue_seconds=30.0)
    fleet.step("t0")
    fleet.context.pauses.pause("local", 60, "payment: none left", what="starts")
    assert told(tick(fleet.context)) == [(Step.TRACK, "local")]


@pytest.mark.parametrize("reason", ["capacity: too many", "auth: refused", "outage: away"])
def test_a_paused_back_end_is_left_alone(fleet: Fleet, reason: str) -> None:
    fleet.sandbox.behave(queue_seconds=30.0)
    fleet.step("t0")
    fleet.context.pauses.pause("local", 60, reason)
    assert told(tick(fleet.context)) == []
    fleet.unpause()
    assert (Step.TRACK, "local") in told(tick(fleet.context))


def test_a_tick_is_noted(fleet: Fleet) -> None:
    assert fleet.store.ticked_at() == 0
    tick(fleet.context)
    assert fleet.store.now() - 5 < fleet.store.ticked_at() <= fleet.store.now()


def test_a_pause_that_ends_lets_tiles_go_on(fleet: Fleet) -> None:
    fleet.context.pauses.pause("local", 0.05, "capacity: too many")
    for tile_id in ("t0", "t1", "t2"):
        fleet.step(tile_id)
    assert tick(fleet.context) == []
    time.sleep(0.06)
    assert told(tick(fleet.context)) == [(Step.SUBMIT, "t0"), (Step.SUBMIT, "t1")]


def test_what_a_tick_says_every_worker_knows(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=2)
    fleet.finished("t0")
    fleet.step("t1")
    fleet.is_due("t0")
    fleet.context.limits.track_in("local", 0)
    messages = tick(fleet.context)
    assert {message.task for message in messages} == {Step.TRACK, Step.POSTPROCESS}
    assert {message.task for message in messages} | {TICK} <= set(tasks.app.tasks)
