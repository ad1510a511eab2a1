"""How tiles come into the store: what `add.lua` is told of each."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from campaign.tile import HOLDS_SLOT, Step, Tile, TileStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOST_AFTER = 30.0
"""Seconds after which the message about a tile that was added counts as lost."""

_SAID_OTHERWISE = frozenset({"campaign", "id", "status", "order", "since", "holder"})

_DEFAULTS = {field.name: field.default for field in fields(Tile) if field.name not in _SAID_OTHERWISE}

_STARTED = frozenset({TileStatus.QUEUED, TileStatus.RUNNING})


def row(
    tile: Tile,
    backends: Sequence[str],
    history: Sequence[Mapping[str, Any]] = (),
    instead: Tile | None = None,
) -> dict[str, Any]:
    """What `add.lua` is told of `tile`: where it belongs follows from its status.

    Args:
        tile: as it is to be.
        backends: the campaign's; one that is not started waits for room on them, or on the one that it is pinned to.
        history: what failed for it before.
        instead: the tile that has to be there; default: none is.
    """
    told: dict[str, Any] = {"id": tile.id, "order": tile.order, "status": tile.status.value}
    if known := _known(tile):
        told["fields"] = known
    if tile.status is TileStatus.NOT_STARTED:
        told["wait"] = list(tile.candidates(backends))
    elif tile.status in HOLDS_SLOT:
        told |= {"slot": tile.backend, "started": tile.status in _STARTED}
    if tile.status is not TileStatus.NOT_STARTED and tile.next_step not in {None, Step.TRACK}:
        told["due"] = LOST_AFTER
    if history:
        told["history"] = [json.dumps(dict(entry)) for entry in history]
    if instead is not None:
        told["instead"] = [instead.status.value, str(instead.attempt)]
    return told


def encoded(value: Any) -> str:
    """A field of a tile as the store keeps it."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _known(tile: Tile) -> dict[str, str]:
    """The fields in which it differs from a tile of which nothing is known."""
    return {name: encoded(value) for name, default in _DEFAULTS.items() if (value := getattr(tile, name)) != default}
