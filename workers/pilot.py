"""The pilot: a campaign's first tiles run alone; the others follow when all of them are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign.tile import TileStatus

if TYPE_CHECKING:
    from workers.context import Context

_WELL = frozenset({TileStatus.PUBLISHED, TileStatus.SKIPPED})
_BADLY = frozenset({TileStatus.FAILED, TileStatus.CANCELED})


def look_at_pilot(context: Context, campaign: str) -> None:
    """Let the other tiles of `campaign` go when its pilot is through, and note how many tiles of it were not."""
    control = context.controls.get(campaign)
    if control.pilot_upto is None:
        return
    tiles = [tile for tile in context.store.get_many(campaign, control.pilot) if tile is not None]
    if all(tile.status in _WELL for tile in tiles):
        context.controls.put(campaign, pilot_upto=None, pilot_failed=None)
        return
    failed = sum(tile.status in _BADLY for tile in tiles)
    if failed != control.pilot_failed:
        context.controls.put(campaign, pilot_failed=failed)
