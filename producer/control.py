"""retry and cancel: what a user does to tiles, by the same compare-and-set that workers use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign.errors import TransitionLost
from campaign.message import tile_message
from campaign.spec import Backend
from campaign.tile import NEXT_STEP, NO_FAILURE, RETRY_FROM, Step, Tile, TileStatus
from producer.ask import stop_jobs
from producer.enqueue import send

if TYPE_CHECKING:
    from collections.abc import Iterable

    from campaign.store import CampaignMeta, TileStore

RETRIABLE = (TileStatus.FAILED, TileStatus.CANCELED, TileStatus.SKIPPED)
"""Statuses that a user can send a tile back from."""

_WITH_JOB = frozenset({TileStatus.CREATED, TileStatus.QUEUED, TileStatus.RUNNING})


def retry(store: TileStore, redis_url: str, meta: CampaignMeta, tiles: Iterable[Tile]) -> int:
    """Send tiles back to the step that failed, with all attempts before them; returns how many.

    A tile whose job is good does not get a second one: it goes back to its results.
    """
    again = []
    for tile in tiles:
        try:
            again.append(_retry(store, meta, tile))
        except TransitionLost:
            continue
    send(redis_url, store.namespace, [message for tile in again if (message := tile_message(tile))])
    return len(again)


def _retry(store: TileStore, meta: CampaignMeta, tile: Tile) -> Tile:
    status = RETRY_FROM[Step(tile.failed_step)] if tile.failed_step else TileStatus.NOT_STARTED
    if status is not TileStatus.NOT_STARTED:
        return store.transition(tile, status, anyone=True, due=0, **NO_FAILURE)
    candidates = [tile.backend] if tile.pinned else meta.backends
    fresh = NO_FAILURE | {
        "job_id": "",
        "backend": tile.backend if tile.pinned else "",
        "attempts_before": tile.attempt,
    }
    return store.transition(tile, status, anyone=True, room="wait", backends=candidates, **fresh)


def cancel(store: TileStore, meta: CampaignMeta) -> tuple[int, list[str]]:
    """Cancel all tiles that are not done, and their jobs on the back-ends.

    Returns:
        How many tiles were canceled, and what went wrong on the back-ends, a line each.
    """
    canceled = 0
    jobs: dict[str, list[str]] = {}
    for status in NEXT_STEP:
        for tile in store.tiles(meta.name, status):
            try:
                store.transition(tile, TileStatus.CANCELED, anyone=True, room="free")
            except TransitionLost:
                continue
            canceled += 1
            if tile.status in _WITH_JOB and tile.job_id:
                jobs.setdefault(tile.backend, []).append(tile.job_id)
    backends = [Backend.from_store(store.backend_settings(name)) for name in jobs]
    return canceled, stop_jobs(backends, jobs) if jobs else []
