"""track: from a started job to a finished or failed one, by one look at the back-end's list of jobs for many tiles."""

from __future__ import annotations

import json
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import requests
from openeo.rest import OpenEoApiError, OpenEoApiPlainError, OpenEoClientException

from campaign.errors import StoreUnavailable, TransitionLost
from campaign.failure import ErrorClass
from campaign.message import Message, tile_message
from campaign.tile import HAS_STARTED, HOLDS_SLOT, Step, Tile, TileStatus
from workers import backend, setbacks
from workers.failures import Failure, Throttled, classify, classify_job
from workers.limits import LOST_AFTER
from workers.orphans import end_orphans

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from campaign.meta import CampaignMeta
    from workers.connection import FleetConnection
    from workers.context import Context

log = logging.getLogger(__name__)

MAX_PAGES = 5
"""Pages of the job list that are read at most before jobs that are still missing are described one by one."""

LARGEST_PAGE = 1000
"""Jobs asked for in one page of the list at most."""

DESCRIBED = 20
"""Jobs that the list does not show and that are described in one look; the others' turn comes with the next looks."""

SLOWEST = 6.0
"""How much longer than the back-end's `poll_interval` the wait between two looks grows while nothing moves."""

NOT_STARTED_AFTER = 60.0
"""Seconds after which a job that was started, and that the back-end still lists as created, is started again."""

_DESCRIBED_AT_ONCE = 8
_NOT_FOUND = 404
_JOB_STATUSES: Mapping[str, TileStatus] = {
    "created": TileStatus.QUEUED,
    "queued": TileStatus.QUEUED,
    "running": TileStatus.RUNNING,
    "finished": TileStatus.FINISHED,
}


def track(context: Context, name: str) -> list[Message]:
    """Bring all tiles with a job on the back-end `name` up to date; one worker at a time does.

    Returns:
        Messages for the tiles that moved on, and for those that got the room they gave back.
    """
    with context.limits.tracking(name) as mine:
        if not mine or context.pauses.paused_for(name, starting=False):
            return []
        began = context.store.now()
        tiles = _tracked(context, name)
        moved = _look(context, name, tiles) if tiles else []
        quiet = context.limits.quiet_for(name, moved=bool(moved))
        wait = _next_look(context, name, tiles.values(), quiet)
        context.limits.track_in(name, max(0.0, began + wait - context.store.now()))
    if any(tile.status not in HAS_STARTED for tile in moved):
        context.pauses.job_ended(name)
    woken = context.limits.wake(name)
    return [message for tile in (*woken, *moved) if (message := tile_message(tile)) and message.task != Step.TRACK]


def _tracked(context: Context, name: str) -> dict[str, Tile]:
    """The tiles to look at by the id of their job; places of tiles that need none any more are given back."""
    tiles = {}
    for tile in context.store.tiles_on(name):
        if tile.status in HAS_STARTED:
            tiles[tile.job_id] = tile
        elif tile.status not in HOLDS_SLOT | {TileStatus.NOT_STARTED}:
            context.limits.drop_slot(name, tile)
    return tiles


def _next_look(context: Context, name: str, tiles: Iterable[Tile], quiet: int) -> float:
    """Seconds from one look to the next: longer while nothing moves, but not beyond the time when a job should end."""
    shortest = context.backend(name).poll_interval
    wait = shortest * min(SLOWEST, 1.2**quiet)
    typical, now = context.limits.job_seconds(name), context.store.now()
    ends = [tile.started_at + typical - now for tile in tiles] if typical else []
    return max(shortest, min([wait, *(end for end in ends if end > 0)]))


def _look(context: Context, name: str, tiles: dict[str, Tile]) -> list[Tile]:
    try:
        jobs = _jobs(context, name, tiles)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001  (the back-end's trouble must not end the tracker)
        _trouble(context, name, classify(error))
        return []
    context.pauses.answered(name)
    with ThreadPoolExecutor(_DESCRIBED_AT_ONCE) as pool:
        moved = pool.map(
            partial(_move, context, _metas(context, tiles)), [tiles[job_id] for job_id in jobs], jobs.values()
        )
        return [tile for tile in moved if tile is not None]


def _trouble(context: Context, name: str, failure: Failure) -> None:
    """Tell the user, and leave the back-end alone for a while where it asks for that or does not answer."""
    log.warning("%s: %s", name, failure.message, extra={"action": Step.TRACK})
    if not failure.ours:
        context.pauses.trouble(name, failure.message)
    setbacks.leave_alone(context, name, failure)


def _jobs(context: Context, name: str, tiles: Mapping[str, Tile]) -> dict[str, dict[str, Any]]:
    """What the back-end says of the jobs of `tiles`: from its list, and one by one for those it does not show."""
    connection = context.connection(name)
    oldest = datetime.fromtimestamp(min(tile.submitted_at for tile in tiles.values()), UTC) - backend.CLOCK_SKEW
    size = min(LARGEST_PAGE, max(backend.PAGE, 2 * len(tiles)))
    found: dict[str, dict[str, Any]] = {}
    others: list[dict[str, Any]] = []
    for number, page in enumerate(backend.job_pages(connection, size), start=1):
        ours = {job["id"]: job for job in page if job.get("id") in tiles}
        found |= ours
        others += [job for job in page if job.get("id") not in tiles]
        if not ours or len(found) == len(tiles) or backend.ends_before(page, oldest) or number == MAX_PAGES:
            break
    end_orphans(context, connection, others)
    missing = [job_id for job_id in tiles if job_id not in found]
    missing = random.sample(missing, min(DESCRIBED, len(missing)))
    with ThreadPoolExecutor(_DESCRIBED_AT_ONCE) as pool:
        return found | dict(zip(missing, pool.map(partial(_describe, context, connection), missing), strict=True))


def _describe(context: Context, connection: FleetConnection, job_id: str) -> dict[str, Any]:
    """One job; `missing` where the back-end does not know it, no status where it does not say: the rest goes on."""
    try:
        return dict(connection.job(job_id).describe())
    except (OpenEoApiPlainError, OpenEoClientException, requests.RequestException, Throttled) as error:
        if isinstance(error, OpenEoApiError) and error.http_status_code == _NOT_FOUND:
            return {"status": "missing"}
        _mind(context, connection.backend.name, error)
        return {}


def _mind(context: Context, name: str, error: Exception) -> Failure:
    """What a request about one job ran into; where the back-end wants fewer requests, it gets fewer."""
    failure = classify(error)
    if failure.error_class is ErrorClass.CAPACITY:
        setbacks.leave_alone(context, name, failure)
    return failure


def _metas(context: Context, tiles: Mapping[str, Tile]) -> dict[str, CampaignMeta]:
    """The campaigns of `tiles`, each read once."""
    return {name: context.meta(name) for name in {tile.campaign for tile in tiles.values()}}


def _move(context: Context, metas: Mapping[str, CampaignMeta], tile: Tile, job: dict[str, Any]) -> Tile | None:
    """Move one tile to where its job is; returns it if that is somewhere else than before."""
    status = str(job.get("status"))
    try:
        if status == "error":
            return _job_failed(context, metas[tile.campaign], tile)
        if status == "canceled":
            return _canceled(context, metas[tile.campaign], tile)
        if status == "missing":
            gone = Failure(ErrorClass.JOB, f"job {tile.job_id} is not on the back-end any more")
            return setbacks.job_failed(context, tile, gone)
        if status == "created" and context.store.now() - tile.since > NOT_STARTED_AFTER:
            backend.start(context.connection(tile.backend), tile.job_id)
        if _JOB_STATUSES.get(status, tile.status) is not tile.status:
            return _follow(context, tile, _JOB_STATUSES[status])
        return _cut_off(context, metas[tile.campaign], tile)
    except TransitionLost as lost:
        log.info("%s", lost)
    except (OpenEoApiPlainError, OpenEoClientException, requests.RequestException, Throttled) as error:
        log.warning("%s: %s", tile.key, _mind(context, tile.backend, error).message, extra={"action": Step.TRACK})
    return None


def _job_failed(context: Context, meta: CampaignMeta, tile: Tile) -> Tile:
    """Another attempt or the end of the tile, by what the job's logs say; what it cost is kept."""
    logs = backend.error_logs(context.connection(tile.backend), tile.job_id)
    return _ended(context, tile, classify_job(logs, setbacks.rules_of(meta)))


def _ended(context: Context, tile: Tile, failure: Failure) -> Tile:
    """The job ended without results; what it cost all the same is kept."""
    job = _describe(context, context.connection(tile.backend), tile.job_id)
    costs, usage = job.get("costs"), job.get("usage")
    return setbacks.job_failed(
        context, tile, failure, None if costs is None else float(costs), json.dumps(usage) if usage else ""
    )


def _cut_off(context: Context, meta: CampaignMeta, tile: Tile) -> Tile | None:
    """Cancel a job that waits or runs for longer than the campaign allows: another attempt, elsewhere if possible."""
    late = _too_long(context, meta, tile)
    if not late:
        return None
    backend.cancel(context.connection(tile.backend), tile.job_id)
    return _timed_out(context, tile, late)


def _canceled(context: Context, meta: CampaignMeta, tile: Tile) -> Tile:
    """Somebody canceled the job: a worker that did not come to say so, or the user."""
    if late := _too_long(context, meta, tile):
        return _timed_out(context, tile, late)
    return context.store.transition(tile, TileStatus.CANCELED, room="free", error="canceled on the back-end")


def _too_long(context: Context, meta: CampaignMeta, tile: Tile) -> str:
    """Why the tile's job is to be canceled; empty when it is not."""
    running = tile.status is TileStatus.RUNNING
    most = meta.cancel_running_job_after if running else meta.cancel_queued_job_after
    if most is None or context.store.now() - tile.since <= most:
        return ""
    setting = "cancel_running_job_after" if running else "cancel_queued_job_after"
    return f"was {tile.status} for more than {most:g} s ({setting}) and was canceled"


def _timed_out(context: Context, tile: Tile, late: str) -> Tile:
    return _ended(context, tile, Failure(ErrorClass.TIMEOUT, f"job {tile.job_id} {late}"))


def _follow(context: Context, tile: Tile, status: TileStatus) -> Tile:
    if status is not TileStatus.FINISHED:
        return context.store.transition(tile, status)
    now = context.store.now()
    context.limits.job_took(tile.backend, now - tile.started_at)
    return context.store.transition(tile, status, room="free", due=LOST_AFTER, finished_at=now)
