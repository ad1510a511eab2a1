"""tick: the fleet's clock. Looks for what is due and heals what was lost; sends messages, moves nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign.message import Message, finalize_message, tile_message, track_message
from workers.finalize import is_stale
from workers.limits import not_yet_claimed
from workers.track import TRACKED

if TYPE_CHECKING:
    from workers.context import Context

TRACK_LOST_AFTER = 30.0
"""Seconds after which a back-end whose tracker said nothing is looked at again."""


def tick(context: Context) -> list[Message]:
    """Messages about everything that is due now."""
    messages: list[Message | None] = []
    for backend in context.store.backend_names():
        messages += [tile_message(tile) for tile in context.limits.wake(backend)]
        if context.limits.track_due(backend, TRACK_LOST_AFTER):
            tracked = [tile for tile in context.limits.on_backend(backend) if tile.status in TRACKED]
            messages += [track_message(backend, tracked)] if tracked else []
    messages += _overdue(context)
    messages += [finalize_message(campaign) for campaign in context.store.campaigns() if is_stale(context, campaign)]
    return [message for message in messages if message is not None]


def _overdue(context: Context) -> list[Message | None]:
    """Messages about tiles whose lease or wait has ended, or whose message was lost while its queue ran empty."""
    overdue = context.limits.overdue()
    busy = {step: context.store.queue_length(step) > 0 for step in {tile.next_step for tile in overdue} if step}
    return [
        tile_message(tile)
        for tile in overdue
        if tile.next_step and not (not_yet_claimed(tile) and busy[tile.next_step])
    ]
