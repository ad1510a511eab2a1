"""Orphans: jobs of ours that no tile owns, seen in the list of jobs on the way; they are ended before they cost more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from campaign.tile import Marker, Step, Tile, TileStatus, read_marker, same_job
from workers import backend

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.connection import FleetConnection
    from workers.context import Context

log = logging.getLogger(__name__)

_ACTIVE = frozenset({"created", "queued", "running"})


def end_orphans(context: Context, connection: FleetConnection, listed: Iterable[dict[str, Any]]) -> None:
    """Stop the jobs among those `listed` that are a tile's no longer; those that never started are removed.

    A worker that was cut off while it asked for a job, and comes back after another one had taken over, leaves such.
    """
    marked = {
        str(job["id"]): (job, marker)
        for job in listed
        if job.get("status") in _ACTIVE and (marker := read_marker(job.get("title") or ""))
    }
    campaigns = {marker.campaign for _, marker in marked.values()}
    runs = {name: meta.run for name in campaigns if (meta := context.store.campaign(name))}
    marked = {key: found for key, found in marked.items() if runs.get(found[1].campaign) == found[1].run}
    keys = [f"{marker.campaign}/{marker.tile}" for _, marker in marked.values()]
    tiles = {tile.key: tile for tile in context.store.tiles_of(keys)} if keys else {}
    for (job_id, (job, marker)), key in zip(marked.items(), keys, strict=True):
        tile = tiles.get(key)
        if tile is not None and is_orphan(tile, job_id, marker):
            log.warning("%s: job %s is not its own any more and is ended", key, job_id, extra={"action": Step.TRACK})
            backend.stop_quietly(connection, job_id, remove=job["status"] == "created")


def is_orphan(tile: Tile, job_id: str, marker: Marker) -> bool:
    """Whether the job with `marker` is not, and will not be, the one of `tile`."""
    if tile.holder or same_job(tile.job_id, job_id):
        return False
    if marker.attempt != tile.attempt:
        return marker.attempt < tile.attempt
    return bool(tile.job_id) or tile.status is TileStatus.NOT_STARTED
