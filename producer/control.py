"""retry and cancel: what a user does to tiles, by the same compare-and-set that workers use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign.backends import Backend
from campaign.errors import FleetError, TransitionLost
from campaign.message import tile_message
from campaign.tile import NEXT_STEP, NO_FAILURE, RETRY_FROM, Step, Tile, TileStatus
from producer.ask import stop_jobs
from producer.enqueue import send

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from campaign.meta import CampaignMeta
    from campaign.store import TileStore

STEPS = (Step.SUBMIT, Step.POSTPROCESS, Step.PUBLISH)
"""Steps that a user can send a tile back to."""


def retry(store: TileStore, redis_url: str, meta: CampaignMeta, tiles: Iterable[Tile], step: Step | None = None) -> int:
    """Send tiles back, with all attempts before them; returns how many.

    A tile whose job is good does not get a second one: it goes back to its results.

    Args:
        store: the fleet's.
        redis_url: where its queues are.
        meta: their campaign.
        tiles: failed, canceled or skipped ones.
        step: one of `STEPS`, where a tile that never came so far stays as it is; default: the step that failed.
    """
    again = []
    for tile in tiles:
        status = _back_to(tile, step)
        try:
            again += [] if status is None else [_send_back(store, meta, tile, status)]
        except TransitionLost:
            continue
    backends = {tile.backend for tile in again if tile.backend}
    waiting = any(tile.status is TileStatus.NOT_STARTED and not tile.pinned for tile in again)
    for name in backends.union(meta.backends if waiting else ()):
        store.clear_pause(name)
    send(redis_url, store.namespace, [message for tile in again if (message := tile_message(tile))])
    return len(again)


def _back_to(tile: Tile, step: Step | None) -> TileStatus | None:
    """The status that a tile goes back to for `step`, None if it has not what that takes."""
    if step is None:
        if tile.status is TileStatus.FAILED and tile.failed_step:
            return RETRY_FROM[Step(tile.failed_step)]
        done = tile.status is TileStatus.CANCELED and tile.job_id and tile.finished_at
        return TileStatus.FINISHED if done else TileStatus.NOT_STARTED
    status = RETRY_FROM[step]
    has_results = bool(tile.job_id and tile.finished_at)
    able = {
        TileStatus.NOT_STARTED: True,
        TileStatus.FINISHED: has_results and tile.status is not TileStatus.SKIPPED,
        TileStatus.POSTPROCESSED: has_results and tile.status is TileStatus.FAILED and tile.failed_step == Step.PUBLISH,
    }
    return status if able[status] else None


def _send_back(store: TileStore, meta: CampaignMeta, tile: Tile, status: TileStatus) -> Tile:
    if status is not TileStatus.NOT_STARTED:
        return store.transition(tile, status, anyone=True, due=0, **NO_FAILURE)
    fresh = NO_FAILURE | {
        "job_id": "",
        "backend": tile.backend if tile.pinned else "",
        "attempts_before": tile.attempt,
        "finished_at": 0.0,
    }
    return store.transition(tile, status, anyone=True, room="wait", backends=tile.candidates(meta.backends), **fresh)


def cancel(store: TileStore, meta: CampaignMeta) -> tuple[int, list[str]]:
    """Cancel all tiles that are not done, and the jobs of all canceled tiles on the back-ends.

    Returns:
        How many tiles were canceled, and what went wrong on the back-ends, a line each.
    """
    canceled = 0
    while moving := [tile for status in NEXT_STEP for tile in store.tiles(meta.name, status)]:
        canceled += sum(_cancel(store, tile) for tile in moving)
    jobs: dict[str, list[str]] = {}
    for tile in store.tiles(meta.name, TileStatus.CANCELED):
        if tile.job_id and not tile.finished_at:
            jobs.setdefault(tile.backend, []).append(tile.job_id)
    kept = {name: store.backend_settings(name) for name in jobs}
    backends = [Backend.from_store(fields) for fields in kept.values()]
    try:
        return canceled, stop_jobs(backends, jobs, _login_files(store, kept)) if jobs else []
    except FleetError as error:
        return canceled, [str(error)]


def _login_files(store: TileStore, kept: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, str]]:
    """Path and text of the campaign files that log in to back-ends."""
    metas = {name: store.campaign(fields.get("authenticated_by", "")) for name, fields in kept.items()}
    return {name: (meta.path, meta.source) for name, meta in metas.items() if meta is not None}


def _cancel(store: TileStore, tile: Tile) -> bool:
    """Whether the tile is canceled now: not if a worker moved it meanwhile."""
    try:
        store.transition(tile, TileStatus.CANCELED, anyone=True, room="free")
    except TransitionLost:
        return False
    return True
