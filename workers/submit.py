"""submit: from a tile that has room on a back-end to a started job, never to a second one."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from campaign.errors import NoRoom, TransitionLost
from campaign.message import Message, tile_message
from campaign.tile import NO_FAILURE, Step, Tile, TileStatus
from workers import backend, recover
from workers.failures import ErrorClass, JobRefused, classify

if TYPE_CHECKING:
    from workers.context import Context

log = logging.getLogger(__name__)

_REFUSED = range(400, 500)


def submit(context: Context, tile: Tile) -> list[Message]:
    """Create the tile's job and start it; a tile for which there is no room waits in the store.

    Returns:
        Messages for the tiles that got the room this one gave back.
    """
    try:
        held = _claim(context, tile)
    except NoRoom:
        return []
    with context.limits.holding(held):
        going_on = _start(context, held) if held.status is TileStatus.CREATED else _create(context, held, tile)
    if going_on:
        context.limits.track_in(held.backend, 0)
        return []
    return [message for woken in context.limits.wake(held.backend) if (message := tile_message(woken))]


def _claim(context: Context, tile: Tile) -> Tile:
    """Take hold of the tile; a new attempt takes room and is recorded before anything is sent."""
    store, lease = context.store, context.limits.lease
    if tile.status is not TileStatus.NOT_STARTED:
        return store.claim(tile, lease)
    candidates = [tile.backend] if tile.pinned else context.meta(tile.campaign).backends
    return store.claim(
        tile,
        lease,
        TileStatus.SUBMITTING,
        room="take",
        backends=candidates,
        attempt=tile.attempt + 1,
        submitted_at=store.now(),
        job_id="",
        costs=None,
        usage="",
    )


def _create(context: Context, tile: Tile, found: Tile) -> bool:
    """Have the user's function create the job, or find the one that an earlier worker created for this attempt.

    Returns:
        Whether the tile has a job now and keeps its room.
    """
    intent = backend.Intent(tile.marker)
    try:
        connection = context.connection(tile.backend)
        if found.status is TileStatus.SUBMITTING:
            intent.job_id = backend.find_job(connection, tile.marker, tile.submitted_at) or ""
        if not intent.job_id:
            _start_job(context, tile, connection, intent)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever user code raises is the tile's failure, not ours)
        return _not_created(context, tile, intent, error)
    if not intent.job_id:
        context.store.transition(tile, TileStatus.SKIPPED, room="free")
        return False
    created = _record(context, tile, connection, intent.job_id)
    return _queued(context, created) if intent.started else _start(context, created)


def _start_job(context: Context, tile: Tile, connection: backend.FleetConnection, intent: backend.Intent) -> None:
    """Call the user's `start_job` as MultiBackendJobManager does; `intent` knows the job, or that there is none."""
    meta = context.meta(tile.campaign)
    start_job = context.hooks(meta).start_job
    with backend.submitting(intent):
        job = start_job(
            row=context.row(meta, tile),
            connection_provider=context.connection,
            connection=connection,
            provider=tile.backend,
        )
    if job is not None and not hasattr(job, "job_id"):
        raise JobRefused(f"start_job returned {type(job).__name__}; it has to return a job (create_job) or None")
    if bool(job) != bool(intent.job_id) or (job is not None and job.job_id != intent.job_id):
        raise JobRefused("start_job has to return the one job that it created on the connection given, or None")


def _not_created(context: Context, tile: Tile, intent: backend.Intent, error: BaseException) -> bool:
    """Nobody knows of a job, or it is known but what came after it went wrong."""
    failure = classify(error)
    if intent.job_id:
        known = context.store.transition(tile, TileStatus.CREATED, holder=tile.holder, due=0, job_id=intent.job_id)
        recover.step_failed(context, known, Step.SUBMIT, failure, sure=False)
        return failure.error_class is not ErrorClass.USER_CODE
    refused = getattr(error, "http_status_code", 0) in _REFUSED
    if intent.sent and not refused and failure.error_class is ErrorClass.USER_CODE:
        failure = replace(failure, error_class=ErrorClass.TRANSIENT)
    recover.step_failed(context, tile, Step.SUBMIT, failure, sure=refused or not intent.sent)
    return False


def _record(context: Context, tile: Tile, connection: backend.FleetConnection, job_id: str) -> Tile:
    """Record the job before anything else is done with it; a job that came too late is removed, unstarted."""
    lease = context.limits.lease
    try:
        return context.store.transition(tile, TileStatus.CREATED, holder=tile.holder, due=lease, job_id=job_id, tries=0)
    except TransitionLost:
        log.warning("%s: job %s came too late and is deleted", tile.key, job_id, extra={"action": Step.SUBMIT})
        connection.job(job_id).delete()
        raise


def _start(context: Context, tile: Tile) -> bool:
    try:
        backend.start(context.connection(tile.backend), tile.job_id)
    except Exception as error:  # noqa: BLE001  (see _create)
        recover.step_failed(context, tile, Step.SUBMIT, classify(error), sure=False)
        return True
    return _queued(context, tile)


def _queued(context: Context, tile: Tile) -> bool:
    context.store.transition(tile, TileStatus.QUEUED, started_at=context.store.now(), **NO_FAILURE)
    return True
