"""What becomes of a tile whose step failed: by the class of the failure, never an exception that ends a campaign."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any

from campaign.errors import TransitionLost
from campaign.failure import ELSEWHERE, FINAL, ErrorClass, Rule
from campaign.tile import HAS_STARTED, HOLDS_SLOT, Step, Tile, TileStatus
from workers.failures import JOB_LIMITS, Failure, classify, failure_fields, fingerprint
from workers.pauses import EVERYTHING, STARTS

if TYPE_CHECKING:
    from campaign.meta import CampaignMeta
    from workers.context import Context

log = logging.getLogger(__name__)

MAX_TRIES = 8
"""How often a worker takes hold of a tile for one step in vain before the tile fails: about six minutes of waits."""

PAUSES = {ErrorClass.CAPACITY: 10.0, ErrorClass.AUTH: 60.0, ErrorClass.PAYMENT: 600.0}
"""Seconds a back-end is paused when it does not say for how long."""

_OF_A_JOB = frozenset({ErrorClass.JOB, ErrorClass.RESOURCES, ErrorClass.TIMEOUT, ErrorClass.BACKEND})
"""Classes after which a job that is there is of no use."""

_OF_THE_TABLE = frozenset({ErrorClass.USER_CODE, ErrorClass.BACKEND})
"""Classes of failures that, when they meet the first tiles, will meet all."""

_CAME_FURTHER = frozenset(TileStatus) - {
    TileStatus.NOT_STARTED,
    TileStatus.SUBMITTING,
    TileStatus.FAILED,
    TileStatus.CANCELED,
}
"""Statuses of tiles whose `start_job` went well."""


def backoff(tries: int) -> float:
    """Seconds to wait after `tries` failures in a row: doubling from 2, at most 300, spread by a half."""
    return min(300.0, 2.0**tries) * random.uniform(0.5, 1.0)  # noqa: S311  (not a secret)


def claim(context: Context, tile: Tile, step: Step, **words: Any) -> Tile:
    """Take hold of `tile` for `step`; one that ended its workers too often fails here.

    Raises:
        TransitionLost: somebody holds it, it moved on, or it failed now.
        NoRoom: with `room="take"`: it waits.
    """
    held = context.store.claim(tile, context.limits.leases.seconds, **words)
    if tile.status is held.status:  # what another worker did since `tile` was read counts, a job asked for above all
        now = context.store.get(tile.campaign, tile.id)
        if now is None or now.holder != held.holder:
            raise TransitionLost(f"{tile.key}: taken over at once")
        held = now
    if held.tries > MAX_TRIES:
        fail(context, held, step, Failure(ErrorClass.UNEXPECTED, f"{step} ended its worker {MAX_TRIES} times"))
        raise TransitionLost(f"{tile.key}: {step} ended its worker too often, it failed")
    return held


def put_off_while_paused(context: Context, tile: Tile) -> bool:
    """Whether the tile's back-end is paused; it waits, is due again when the pause ends, and nothing is asked for it."""
    starting = tile.status not in {TileStatus.FINISHED, TileStatus.POSTPROCESSED}
    seconds = context.pauses.paused_for(tile.backend, starting=starting) if tile.backend else 0.0
    if seconds and tile.status is TileStatus.CREATED:
        context.store.transition(tile.evolve(holder=""), tile.status, room="ready")
    elif seconds and tile.status is TileStatus.NOT_STARTED:  # another back-end may have room, or this one when it ends
        candidates = tile.candidates(context.meta(tile.campaign).backends)
        backend = tile.backend if tile.pinned else ""
        context.store.transition(tile, tile.status, room="wait", backends=candidates, backend=backend)
    elif seconds:
        context.store.transition(tile.evolve(holder=""), tile.status, due=seconds + random.uniform(0, 2))  # noqa: S311
    return bool(seconds)


def rules_of(meta: CampaignMeta) -> list[Rule]:
    """The user's rules for failures."""
    return [Rule(**rule) for rule in meta.rules]


def diagnose(context: Context, tile: Tile, error: BaseException) -> Failure:
    """What went wrong with a step of `tile`, by the campaign's rules and our tables."""
    return classify(error, rules_of(context.meta(tile.campaign)))


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
        if failure.ours:
            _again(context, tile, failure, failure.retry_after or 1.0, sure=sure, counts=False)
        elif failure.error_class in PAUSES or failure.error_class is ErrorClass.OUTAGE:
            _wait_for_backend(context, tile, step, failure, sure=sure)
        elif tile.status is TileStatus.CREATED and failure.error_class in _OF_A_JOB:
            job_failed(context, tile, failure)
        elif failure.error_class is ErrorClass.TRANSIENT and tile.tries < MAX_TRIES:
            _again(context, tile, failure, backoff(tile.tries), sure=sure, counts=True)
        elif sure and _may_go_elsewhere(context, tile, failure):
            changes = failure_fields(failure) | {"avoid": _avoided(tile), "tries": 0}
            requeue(context, tile, attempt=tile.attempt - 1, **changes)
        else:
            fail(context, tile, step, failure)
            _stop_early(context, tile, step, failure)
    except TransitionLost as lost:
        log.info("%s", lost)


def _may_go_elsewhere(context: Context, tile: Tile, failure: Failure) -> bool:
    if tile.status is not TileStatus.SUBMITTING or failure.error_class is not ErrorClass.BACKEND or tile.pinned:
        return False
    return bool(set(context.meta(tile.campaign).backends) - set(_avoided(tile).split(",")))


def _wait_for_backend(context: Context, tile: Tile, step: Step, failure: Failure, *, sure: bool) -> None:
    """Pause the back-end if it asks for that; the tile goes on when the pause ends, here or elsewhere, and loses no try.

    As long as it is not paused, the failure may be the tile's own, and counts as a try.
    """
    if failure.code in JOB_LIMITS and tile.status is TileStatus.CREATED:
        jobs = sum(_may_run(other) for other in context.store.tiles_on(tile.backend) if other.key != tile.key)
        seconds = failure.retry_after or PAUSES[failure.error_class]
        context.pauses.full(tile.backend, jobs, seconds, reason(failure))
    else:
        seconds = leave_alone(context, tile.backend, failure)
    changes = failure_fields(failure) | {"tries": max(0, tile.tries - 1)}
    if not seconds and tile.tries >= MAX_TRIES:
        fail(context, tile, step, failure)
    elif not seconds:
        _again(context, tile, failure, backoff(tile.tries), sure=sure, counts=True)
    elif tile.status is TileStatus.CREATED:
        context.store.transition(tile, tile.status, room="ready", **changes)
    elif tile.status is TileStatus.SUBMITTING and sure:
        requeue(context, tile, attempt=tile.attempt - 1, **changes)
    else:
        context.store.transition(tile, tile.status, due=seconds, **changes)


def _may_run(tile: Tile) -> bool:
    """Whether its job is started, or a worker is about to find out."""
    return tile.status in HAS_STARTED or (tile.status is TileStatus.CREATED and bool(tile.holder))


def leave_alone(context: Context, backend: str, failure: Failure) -> float:
    """Pause a back-end that asks for that, or that does not answer again and again.

    Returns:
        For how many seconds; 0 if it is not paused.
    """
    if failure.error_class is ErrorClass.OUTAGE:
        return context.pauses.outage(backend, reason(failure), failure.retry_after)
    if failure.error_class not in PAUSES:
        return 0.0
    seconds = failure.retry_after or PAUSES[failure.error_class]
    starts = failure.error_class is ErrorClass.PAYMENT or failure.code in JOB_LIMITS
    ramp = failure.error_class is ErrorClass.CAPACITY and not starts
    context.pauses.pause(backend, seconds, reason(failure), what=STARTS if starts else EVERYTHING, ramp=ramp)
    return seconds


def reason(failure: Failure) -> str:
    """Why a back-end is paused, for the user."""
    return f"{failure.error_class}: {failure.message}"


def _stop_early(context: Context, tile: Tile, step: Step, failure: Failure) -> None:
    """Pause a campaign whose first tiles all fail with the same error: the rest of the table would, too."""
    most = context.meta(tile.campaign).stop_after
    if step is not Step.SUBMIT or failure.error_class not in _OF_THE_TABLE or not most:
        return
    times = context.controls.count_error(tile.campaign, fingerprint(failure.message))
    if times < most or _CAME_FURTHER & context.store.counts(tile.campaign).keys():
        return
    last = (failure.message.strip().splitlines() or [""])[-1]
    why = f"{failure.error_class}: each of the first {times} tiles failed with the same error: {last}; mend the campaign file"
    why += f" and run it again; `retry {tile.campaign} --class {failure.error_class}` brings these tiles back"
    context.controls.put(tile.campaign, paused=why)


def _avoided(tile: Tile) -> str:
    """What `avoid` says of the tile when its back-end failed for it, too."""
    return ",".join(sorted({*filter(None, tile.avoid.split(",")), tile.backend}))


def _again(context: Context, tile: Tile, failure: Failure, due: float, *, sure: bool, counts: bool) -> None:  # noqa: PLR0913
    """The same again in `due` seconds; it `counts` as a try unless the back-end as a whole is to blame."""
    changes = {} if failure.ours else failure_fields(failure)
    changes |= {"tries": tile.tries if counts else max(0, tile.tries - 1)}
    if tile.status is TileStatus.SUBMITTING and sure:
        requeue(context, tile, due=due, attempt=tile.attempt - 1, **changes)
    else:
        context.store.transition(tile, tile.status, due=due, **changes)


def requeue(context: Context, tile: Tile, *, due: float | None = None, **changes: Any) -> Tile:
    """Send a tile back to the start of its life, to wait for room at once or in `due` seconds."""
    changes |= {"job_id": "", "sent_at": 0.0, "backend": tile.backend if tile.pinned else ""}
    again = tile.evolve(avoid=changes.get("avoid", tile.avoid))
    candidates = again.candidates(context.meta(tile.campaign).backends)
    room = "wait" if due is None else "free"
    return context.store.transition(tile, TileStatus.NOT_STARTED, due=due, room=room, backends=candidates, **changes)


def fail(context: Context, tile: Tile, step: Step, failure: Failure, **changes: Any) -> Tile:
    """The tile's life ends here, with the reason."""
    changes |= {"failed_step": step.value, **failure_fields(failure)}
    room = "free" if tile.status in HOLDS_SLOT else "keep"
    entry = {"step": step.value, "costs": changes.get("costs"), **failure_fields(failure)}
    return context.store.transition(tile, TileStatus.FAILED, room=room, failure=entry, **changes)


def job_failed(context: Context, tile: Tile, failure: Failure, costs: float | None = None, usage: str = "") -> Tile:
    """The back-end's job failed: another attempt if one is left and makes sense, else the tile fails."""
    meta = context.meta(tile.campaign)
    if failure.error_class in FINAL or tile.attempt - tile.attempts_before >= meta.max_attempts:
        return fail(context, tile, Step.TRACK, failure, costs=costs, usage=usage)
    entry = {"step": Step.TRACK.value, "costs": costs, **failure_fields(failure)}
    changes = {"spent": tile.spent + (costs or 0.0), "tries": 0, **failure_fields(failure)}
    if failure.error_class is ErrorClass.RESOURCES:
        changes["escalation"] = min(tile.escalation + 1, len(meta.escalate))
    elif failure.error_class in ELSEWHERE and not tile.pinned:
        changes["avoid"] = _avoided(tile)
        if set(meta.backends) <= {*changes["avoid"].split(",")}:  # all of them again, this one last
            changes["avoid"] = tile.backend if len(meta.backends) > 1 else ""
    return requeue(context, tile, failure=entry, **changes)
