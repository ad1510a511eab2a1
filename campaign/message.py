"""The messages between producer and workers: hints, never facts. The name of a task is its step, and so is its queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaign.tile import Step, Tile, TileStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TICK = "tick"
"""Task of the fleet's clock: looks for what is due and sends messages about it."""

FINALIZE = "finalize"
"""Task that brings the catalog above the items up to date, on the publish queue."""

VISIBILITY_TIMEOUT = 3600
"""Seconds after which Redis gives an unacknowledged message out again; leases heal sooner, so it only has to be long."""

_TILES_SHOWN = 20


@dataclass(frozen=True)
class Message:
    """One task to be sent."""

    task: str
    queue: str
    kwargs: Mapping[str, str]
    """What the task is called with."""
    shown: str
    """What a person sees of it in Flower."""
    task_id: str | None = None

    def options(self) -> dict[str, str | None]:
        """What Celery's `send_task` takes beside name and arguments."""
        return {"queue": self.queue, "task_id": self.task_id, "argsrepr": self.shown, "kwargsrepr": "{}"}


def tile_message(tile: Tile) -> Message | None:
    """The message that moves `tile` on, None when no worker has to; tiles of one back-end are tracked together."""
    step = tile.next_step
    if step is None:
        return None
    if step is Step.TRACK:
        return track_message(tile.backend, [tile])
    attempt = tile.attempt + (tile.status is TileStatus.NOT_STARTED)
    task_id = f"{tile.campaign}.{tile.id}.{step}.{attempt}"
    return Message(step, step, {"campaign": tile.campaign, "tile": tile.id}, tile.key, task_id)


def track_message(backend: str, tiles: Iterable[Tile]) -> Message:
    """The message that looks at the jobs of `tiles` on `backend`; it names some of them for the person who reads it."""
    keys = [tile.key for tile in tiles]
    more = f" and {len(keys) - _TILES_SHOWN} more" if len(keys) > _TILES_SHOWN else ""
    shown = f"{backend}: {', '.join(keys[:_TILES_SHOWN])}{more}"
    return Message(Step.TRACK, Step.TRACK, {"backend": backend}, shown)


def finalize_message(campaign: str) -> Message:
    """The message that brings the catalog of `campaign` up to date."""
    return Message(FINALIZE, Step.PUBLISH, {"campaign": campaign}, campaign, f"{campaign}.{FINALIZE}")


def broker_options(namespace: str) -> dict[str, object]:
    """Celery's `broker_transport_options`, the same on both sides: the queues live below `<namespace>:celery:`."""
    return {
        "global_keyprefix": f"{namespace}:celery:",
        "visibility_timeout": VISIBILITY_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 30,
    }
