"""tick: the fleet's clock. Looks for what is due and heals what was lost; sends messages, moves nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign.message import Message, finalize_message, tile_message, track_message
from campaign.tile import HAS_STARTED
from workers.finalize import is_stale
from workers.pilot import look_at_pilot

if TYPE_CHECKING:
    from workers.context import Context

TRACK_LOST_AFTER = 30.0
"""Seconds after which a back-end whose tracker said nothing is looked at again."""


def tick(context: Context) -> list[Message]:
    """Messages about everything that is due now."""
    context.store.tick()
    for campaign in context.store.campaigns():
        look_at_pilot(context, campaign)
    messages: list[Message | None] = []
    for backend in context.store.backend_names():
        if context.pauses.paused_for(backend, starting=False):
            continue
        messages += [tile_message(tile) for tile in context.limits.wake(backend)]
        if context.limits.track_due(backend, TRACK_LOST_AFTER, early=context.tick / 2):
            tracked = [tile for tile in context.store.tiles_on(backend) if tile.status in HAS_STARTED]
            messages += [track_message(backend, tracked)] if tracked else []
    messages += _overdue(context)
    messages += [finalize_message(campaign) for campaign in context.store.campaigns() if is_stale(context, campaign)]
    return [message for message in messages if message is not None]


def _overdue(context: Context) -> list[Message | None]:
    """Messages about tiles whose lease or wait has ended, or whose message was lost while its queue ran empty."""
    overdue = context.limits.overdue()
    steps = {tile.next_step for tile, _ in overdue if tile.next_step}
    busy = {step for step in steps if context.store.queue_length(step)}
    return [
        tile_message(tile)
        for tile, was_held in overdue
        if was_held or tile.tries or tile.error_class or tile.next_step not in busy
    ]
