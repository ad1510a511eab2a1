"""How tiles come into the store: what `add.lua` is told of each."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from campaign.tile import HAS_STARTED, HOLDS_SLOT, TERMINAL, Tile, TileStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOST_AFTER = 30.0
"""Seconds after which the message about a tile that was added counts as lost."""

_SAID_OTHERWISE = frozenset({"campaign", "id", "status", "order", "since", "holder"})

_DEFAULTS = {field.name: field.default for field in fields(Tile) if field.name not in _SAID_OTHERWISE}

_WOKEN_OTHERWISE = TERMINAL | HOLDS_SLOT | {TileStatus.NOT_STARTED}
"""Statuses in which no tile is due: it is at its end, tracked, or waits for room."""


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
    told: dict[str, Any] = {"id": tile.id, "order": tile.order, "rank": tile.place, "status": tile.status.value}
    if known := _known(tile):
        told["fields"] = known
    if tile.status is TileStatus.NOT_STARTED:
        told["wait"] = list(tile.candidates(backends))
    elif tile.status in HOLDS_SLOT:
        told |= {"slot": tile.backend, "started": tile.status in HAS_STARTED}
    if tile.status not in _WOKEN_OTHERWISE:
        told["due"] = LOST_AFTER
    if tile.costs or tile.spent:
        told["paid"] = _jobs_paid(tile, history)
    if history:
        told["history"] = [json.dumps(dict(entry)) for entry in history]
    if instead is not None:
        told["instead"] = [instead.status.value, str(instead.attempt)]
    return told


def _jobs_paid(tile: Tile, history: Sequence[Mapping[str, Any]]) -> int:
    """For how many jobs its costs are, as far as that is known."""
    earlier = sum(1 for entry in history if entry.get("costs") and entry["job_id"] != tile.job_id)
    return bool(tile.costs) + max(earlier, int(tile.spent > 0))


def encoded(value: Any) -> str:
    """A field of a tile as the store keeps it."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _known(tile: Tile) -> dict[str, str]:
    """The fields in which it differs from a tile of which nothing is known."""
    return {name: encoded(value) for name, default in _DEFAULTS.items() if (value := getattr(tile, name)) != default}
