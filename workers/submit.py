"""submit: from a tile that has room on a back-end to a started job, never to a second one."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from campaign.errors import FleetError, NoRoom, StoreUnavailable, TransitionLost
from campaign.failure import ErrorClass
from campaign.message import Message, tile_message
from campaign.tile import NO_FAILURE, Step, Tile, TileStatus
from workers import backend, setbacks
from workers.connection import Intent, submitting
from workers.failures import AnswerLost, JobRefused, UserCodeRaised

if TYPE_CHECKING:
    from campaign.meta import CampaignMeta
    from workers.connection import FleetConnection
    from workers.context import Context

log = logging.getLogger(__name__)

SETTLED_AFTER = 30.0
"""Seconds after which a job that was asked for without an answer, and is not in the list, never came into being."""

ESTIMATED = 3
"""For how many jobs of a campaign the back-end is asked what they will cost."""

_REFUSED = range(400, 500)


def submit(context: Context, tile: Tile) -> list[Message]:
    """Create the tile's job and start it; a tile for which there is no room waits in the store.

    Returns:
        Messages for the tiles that got the room this one gave back.
    """
    if setbacks.put_off_while_paused(context, tile):
        return []
    try:
        held = _claim(context, tile)
    except NoRoom:
        return []
    if not held.holder:  # its job may not be started yet: it was not woken, somebody asked again
        return []
    with context.limits.leases.tile(held):
        started = _start(context, held) if held.status is TileStatus.CREATED else _create(context, held)
    if started:
        context.limits.track_soon(held.backend, context.backend(held.backend).poll_interval)
        return []
    return [message for woken in context.limits.wake(held.backend) if (message := tile_message(woken))]


def _claim(context: Context, tile: Tile) -> Tile:
    """Take hold of the tile; a new attempt takes room and is recorded before anything is sent."""
    if tile.status is not TileStatus.NOT_STARTED:
        room = "start" if tile.status is TileStatus.CREATED else "keep"
        return setbacks.claim(context, tile, Step.SUBMIT, room=room)
    fresh = {
        "submitted_at": context.store.now(),
        "sent_at": 0.0,
        "started_at": 0.0,
        "finished_at": 0.0,
        "costs": None,
        "usage": "",
    }
    fresh["spent"] = tile.spent + (tile.costs or 0.0)
    return setbacks.claim(
        context,
        tile,
        Step.SUBMIT,
        to=TileStatus.SUBMITTING,
        room="take",
        backends=tile.candidates(context.meta(tile.campaign).backends),
        attempt=tile.attempt + 1,
        job_id="",
        **fresh,
    )


def _create(context: Context, tile: Tile) -> bool:
    """Have the user's function create the job, or find the one that was created for this attempt before.

    Returns:
        Whether the job is started.
    """
    meta = context.meta(tile.campaign)
    holding = _Holding(context, tile)
    options = meta.escalate[: tile.escalation][-1:] or [{}]  # the last one, where the campaign has fewer by now
    intent = Intent(tile.marker(meta.run), holding.before_sending, job_options=options[0])
    try:
        connection = context.connection(tile.backend)
        if tile.sent_at:
            intent.job_id = backend.find_job(connection, intent.marker, tile.submitted_at) or ""
            if not intent.job_id and _may_appear_yet(context, tile):
                return False
        if not intent.job_id:
            _start_job(context, meta, tile, connection, intent)
    except (TransitionLost, StoreUnavailable):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever user code raises is the tile's failure, not ours)
        return _not_created(context, holding.tile, intent, error)
    if not intent.job_id:
        context.store.transition(holding.tile, TileStatus.SKIPPED, room="free", tries=0)
        return False
    room = "started" if intent.started else "start"
    created = _record(context, holding.tile, connection, intent.job_id, room)
    _estimate(context, created, connection)
    if not created.holder:  # created ahead: it waits for its start
        return False
    return _queued(context, created) if intent.started else _start(context, created)


class _Holding:
    """The tile as this worker holds it, before and after it has recorded that it asks for a job."""

    def __init__(self, context: Context, tile: Tile) -> None:
        self.tile = tile
        self._context = context

    def before_sending(self) -> None:
        """Record that a job is asked for now.

        Raises:
            TransitionLost: another worker took the tile over: this one must not ask.
        """
        store, lease = self._context.store, self._context.limits.leases.seconds
        self.tile = store.transition(
            self.tile, self.tile.status, holder=self.tile.holder, due=lease, sent_at=store.now()
        )


def _may_appear_yet(context: Context, tile: Tile) -> bool:
    """Whether a job that was asked for, but is not in the list, may still come into being; then the tile waits."""
    left = tile.sent_at + SETTLED_AFTER - context.store.now()
    if left <= 0:
        return False
    context.store.transition(tile, tile.status, due=min(left, 10.0), tries=tile.tries - 1)
    return True


def _start_job(context: Context, meta: CampaignMeta, tile: Tile, connection: FleetConnection, intent: Intent) -> None:
    """Call the user's `start_job` as MultiBackendJobManager does; `intent` knows the job, or that there is none.

    Raises:
        UserCodeRaised: it raised, or ended the process.
        JobRefused: what it returned is not the job that it created.
    """
    start_job, row = context.hooks(meta).start_job, context.row(meta, tile)
    try:
        with submitting(intent):
            job = start_job(
                row=row,
                connection_provider=context.connection,
                connection=connection,
                provider=tile.backend,
            )
    except FleetError:
        raise
    except (Exception, SystemExit) as error:
        raise UserCodeRaised(f"start_job raised {type(error).__name__}") from error
    if intent.sent and not intent.job_id:
        raise AnswerLost("start_job went on although the answer to its request for a job was lost")
    if job is not None and not hasattr(job, "job_id"):
        raise JobRefused(f"start_job returned {type(job).__name__}; it has to return a job (create_job) or None")
    if (job.job_id if job else "") != intent.job_id or (job and job.connection is not connection):
        raise JobRefused("start_job has to return the one job that it created on the connection given, or None")


def _not_created(context: Context, tile: Tile, intent: Intent, error: BaseException) -> bool:
    """Nobody knows of a job, or it is known but what came after it went wrong; the job is never started here."""
    failure = setbacks.diagnose(context, tile, error)
    if intent.job_id:
        known = _record(context, tile, context.connection(tile.backend), intent.job_id, "started")
        setbacks.step_failed(context, known, Step.SUBMIT, failure, sure=False)
        return False
    refused = getattr(error.__cause__ or error, "http_status_code", 0) in _REFUSED
    if intent.sent and not refused and failure.error_class is ErrorClass.USER_CODE:
        failure = replace(failure, error_class=ErrorClass.TRANSIENT)
    setbacks.step_failed(context, tile, Step.SUBMIT, failure, sure=refused if intent.sent else not tile.sent_at)
    return False


def _record(context: Context, tile: Tile, connection: FleetConnection, job_id: str, room: str = "start") -> Tile:
    """Record the job before anything else is done with it; one that came too late for its tile is removed.

    Returns:
        The tile; nobody holds it if the job may not be started yet.
    """
    lease = context.limits.leases.seconds
    try:
        return context.store.transition(
            tile, TileStatus.CREATED, holder=tile.holder, due=lease, room=room, job_id=job_id, **NO_FAILURE
        )
    except TransitionLost:
        now = context.store.get(tile.campaign, tile.id)
        if now is None or now.job_id != job_id:
            log.warning("%s: job %s came too late and is removed", tile.key, job_id, extra={"action": Step.SUBMIT})
            backend.stop_quietly(connection, job_id, remove=True)
        raise


def _estimate(context: Context, tile: Tile, connection: FleetConnection) -> None:
    """Ask what the job will cost, for the first few of a campaign, where the back-end can tell."""
    if context.store.control(tile.campaign).jobs_estimated >= ESTIMATED:
        return
    if not context.limits.may_ask_estimate(tile.backend):
        return
    costs = backend.estimate(connection, tile.job_id)
    if costs is not None:
        context.controls.add_estimate(tile.campaign, costs)
    context.limits.asked_estimate(tile.backend, in_vain=costs is None)


def _start(context: Context, tile: Tile) -> bool:
    try:
        backend.start(context.connection(tile.backend), tile.job_id)
    except (TransitionLost, StoreUnavailable):
        raise
    except Exception as error:  # noqa: BLE001  (see _create)
        setbacks.step_failed(context, tile, Step.SUBMIT, setbacks.diagnose(context, tile, error), sure=False)
        return False
    return _queued(context, tile)


def _queued(context: Context, tile: Tile) -> bool:
    """Record that the job is started; one whose tile was canceled meanwhile is stopped."""
    context.pauses.answered(tile.backend)
    try:
        context.store.transition(tile, TileStatus.QUEUED, room="started", started_at=context.store.now(), **NO_FAILURE)
    except TransitionLost:
        now = context.store.get(tile.campaign, tile.id)
        if now is not None and now.status is TileStatus.CANCELED:
            backend.stop_quietly(context.connection(tile.backend), tile.job_id, remove=False)
        raise
    return True
