"""The order in which tiles come: by the campaign's priority, then at random or as in the table."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from campaign.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from campaign.spec import CampaignFile
    from campaign.tile import Tile


def in_order(file: CampaignFile, table: pd.DataFrame, tiles: list[Tile]) -> list[Tile]:
    """The tiles of `table`, each with its place among those that wait.

    Raises:
        InvalidInput: the priority is no column, or no number for some row; names both.
    """
    settings = file.campaign
    if settings.priority is None and not settings.shuffle:
        return tiles
    urgency = _urgency(file, table)
    draw = random.Random(settings.name)  # noqa: S311  (not a secret; the same in each run)
    among = [draw.random() if settings.shuffle else 0.0 for _ in tiles]
    ordered = sorted(tiles, key=lambda tile: (-urgency[tile.order], among[tile.order], tile.order))
    places = {tile.id: place for place, tile in enumerate(ordered)}
    return [tile.evolve(rank=places[tile.id]) for tile in tiles]


def _urgency(file: CampaignFile, table: pd.DataFrame) -> list[float]:
    """The priority of each row of `table`."""
    priority = file.campaign.priority
    if priority is None:
        return [0.0] * len(table)
    if callable(priority):
        return [_number(row, value) for row, value in enumerate(_asked(file, table))]
    if priority not in table.columns:
        columns = ", ".join(str(column) for column in table.columns)
        raise InvalidInput(f"priority: the table has no column {priority!r}; it has {columns}")
    return [_number(row, value) for row, value in enumerate(table[priority])]


def _asked(file: CampaignFile, table: pd.DataFrame) -> Iterable[Any]:
    """What the campaign's function says of each row."""
    function: Any = file.campaign.priority
    for number, (_, row) in enumerate(table.iterrows()):
        try:
            value = function(row)
        except Exception as error:
            raise InvalidInput(f"priority, row {number}: {file.where(error)}") from error
        yield value


def _number(row: int, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise InvalidInput(f"priority, row {row}: {value!r} is not a number; give each row one")
    return number
