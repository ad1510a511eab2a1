"""What becomes of a tile whose step failed: by the class of the failure, never an exception that ends a campaign."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any

from campaign.errors import TransitionLost
from campaign.tile import HOLDS_SLOT, Step, Tile, TileStatus
from workers.failures import ErrorClass, Failure, failure_fields

if TYPE_CHECKING:
    from workers.context import Context

log = logging.getLogger(__name__)

MAX_TRIES = 8
"""How often one step is tried for transient failures before the tile fails: about ten minutes."""

PAUSES = {ErrorClass.CAPACITY: 10.0, ErrorClass.AUTH: 60.0, ErrorClass.PAYMENT: 600.0}
"""Seconds a back-end is paused when it does not say for how long."""


def backoff(tries: int) -> float:
    """Seconds to wait after `tries` failures in a row: doubling from 1, at most 300, spread by a half."""
    return min(300.0, 2.0**tries) * random.uniform(0.5, 1.0)  # noqa: S311  (not a secret)


def step_failed(context: Context, tile: Tile, step: Step, failure: Failure, *, sure: bool = True) -> None:
    """Record `failure` of `step` and move `tile` to where its class says.

    Args:
        context: the worker's.
        tile: as the step claimed it.
        step: which one failed.
        failure: why.
        sure: whether it is certain that the step had no effect on the back-end. Where it is not, a tile that was being
            submitted stays so, and its job is looked for first.
    """
    log.warning("%s: %s failed (%s): %s", tile.key, step, failure.error_class, failure.message, extra={"action": step})
    try:
        if failure.error_class in PAUSES:
            _put_off(context, tile, failure, sure=sure)
        elif failure.error_class is ErrorClass.TRANSIENT and tile.tries < MAX_TRIES:
            _try_again(context, tile, failure, sure=sure)
        else:
            fail(context, tile, step, failure)
    except TransitionLost as lost:
        log.info("%s", lost)


def _put_off(context: Context, tile: Tile, failure: Failure, *, sure: bool) -> None:
    """Pause the back-end for everybody; the tile loses nothing."""
    seconds = failure.retry_after or PAUSES[failure.error_class]
    context.limits.pause(tile.backend, seconds, f"{failure.error_class}: {failure.message}")
    if tile.status is TileStatus.SUBMITTING and sure:
        _back_to_waiting(context, tile, failure, due=None)
    else:
        _stay(context, tile, failure, due=seconds)


def _try_again(context: Context, tile: Tile, failure: Failure, *, sure: bool) -> None:
    due = backoff(tile.tries)
    if tile.status is TileStatus.SUBMITTING and sure:
        _back_to_waiting(context, tile, failure, due=due)
    else:
        _stay(context, tile, failure, due=due)


def _stay(context: Context, tile: Tile, failure: Failure, due: float) -> None:
    context.store.transition(tile, tile.status, due=due, tries=tile.tries + 1, **failure_fields(failure))


def _back_to_waiting(context: Context, tile: Tile, failure: Failure, due: float | None) -> None:
    """No job was made: give the slot and the attempt's number back; wait for room, or for `due` seconds first."""
    tries = tile.tries + (due is not None)
    changes = failure_fields(failure) | {"tries": tries, "attempt": tile.attempt - 1}
    requeue(context, tile, due=due, **changes)


def requeue(context: Context, tile: Tile, *, due: float | None = None, **changes: Any) -> Tile:
    """Send a tile back to the start of its life, to wait for room at once or in `due` seconds."""
    changes |= {"job_id": "", "backend": tile.backend if tile.pinned else ""}
    candidates = [tile.backend] if tile.pinned else context.meta(tile.campaign).backends
    room = "wait" if due is None else "free"
    return context.store.transition(tile, TileStatus.NOT_STARTED, due=due, room=room, backends=candidates, **changes)


def fail(context: Context, tile: Tile, step: Step, failure: Failure) -> None:
    """The tile's life ends here, with the reason."""
    context.store.record_failure(tile, {"step": step.value, **failure_fields(failure)})
    room = "free" if tile.status in HOLDS_SLOT else "keep"
    context.store.transition(tile, TileStatus.FAILED, room=room, failed_step=step.value, **failure_fields(failure))


def job_failed(context: Context, tile: Tile, failure: Failure) -> None:
    """The back-end's job failed: another attempt if one is left and makes sense, else the tile fails."""
    attempts = context.meta(tile.campaign).max_attempts
    if (
        failure.error_class in {ErrorClass.DATA, ErrorClass.USER_CODE}
        or tile.attempt - tile.attempts_before >= attempts
    ):
        fail(context, tile, Step.TRACK, failure)
        return
    context.store.record_failure(tile, {"step": Step.TRACK.value, **failure_fields(failure)})
    requeue(context, tile, **failure_fields(failure))
