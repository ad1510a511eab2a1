"""What lies where in a generated scene: fields with a crop each, forest, towns, water; the same on every date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sandbox.noise import hash_unit, value_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sandbox.grid import Window

#: Distance between the seeds of neighbouring fields, pixels of 10 m.
FIELD = 24
WATER, TOWN, FOREST, GRASS, WINTER_CROP, SUMMER_CROP, LATE_CROP, FALLOW = range(8)
#: Upper bound of the crop lottery for each cover of a field.
_LOTTERY = ((0.22, GRASS), (0.50, WINTER_CROP), (0.75, SUMMER_CROP), (0.93, LATE_CROP), (1.01, FALLOW))
_WATER_LEVEL, _TOWN_LEVEL, _FOREST_LEVEL = 0.15, 0.76, 0.70


@dataclass(frozen=True)
class Landscape:
    """A window's land cover."""

    field: NDArray[np.int32]
    """Index of each pixel's field in the tables below, shape (height, width)."""
    cover: NDArray[np.int8]
    """Land cover of each field, shape (fields,); the last entry is water."""
    character: NDArray[np.float32]
    """A number in [0, 1) of each field: its soil, its sowing date, shape (fields,)."""
    texture: NDArray[np.float32]
    """Factor of each pixel's reflectance around 1, shape (height, width)."""


def landscape(window: Window) -> Landscape:
    """The land cover of a window, from the coordinates of its pixels and its zone alone."""
    cols = np.arange(window.col, window.col + window.width, dtype=np.int64)
    rows = np.arange(window.row, window.row - window.height, -1, dtype=np.int64)
    zone = window.grid.epsg
    cell_x = np.arange(cols.min() // FIELD - 1, cols.max() // FIELD + 2)
    cell_y = np.arange(rows.min() // FIELD - 1, rows.max() // FIELD + 2)
    field = _nearest_cell(cols, rows, cell_x, cell_y, zone)
    wet = 0.7 * value_noise(cols, rows, 420, zone + 11) + 0.3 * value_noise(cols, rows, 60, zone + 12)
    field[wet < _WATER_LEVEL] = cell_x.size * cell_y.size
    cover, character = _covers(cell_x, cell_y, zone)
    texture = np.float32(0.96) + np.float32(0.08) * hash_unit(cols[None, :], rows[:, None], zone + 13)
    return Landscape(field, cover, character, texture)


def _nearest_cell(
    cols: NDArray[np.int64], rows: NDArray[np.int64], cell_x: NDArray[np.int64], cell_y: NDArray[np.int64], zone: int
) -> NDArray[np.int32]:
    """Index of the field seed nearest to each pixel: fields are the polygons of a jittered Voronoi diagram."""
    seed_x = (cell_x[None, :] + hash_unit(cell_x[None, :], cell_y[:, None], zone + 1)).astype(np.float32) * FIELD
    seed_y = (cell_y[:, None] + hash_unit(cell_x[None, :], cell_y[:, None], zone + 2)).astype(np.float32) * FIELD
    home_x, home_y = cols // FIELD - cell_x[0], rows // FIELD - cell_y[0]
    best = np.full((rows.size, cols.size), np.inf, np.float32)
    field = np.zeros((rows.size, cols.size), np.int32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near = np.ix_(home_y + dy, home_x + dx)
            away_x = np.abs(seed_x[near] - cols[None, :].astype(np.float32))
            away_y = np.abs(seed_y[near] - rows[:, None].astype(np.float32))
            distance = np.maximum(away_x, away_y) + np.float32(0.4) * np.minimum(away_x, away_y)
            closer = distance < best
            best[closer] = distance[closer]
            index = ((home_y + dy)[:, None] * cell_x.size + (home_x + dx)[None, :]).astype(np.int32)
            field[closer] = index[closer]
    return field


def _covers(
    cell_x: NDArray[np.int64], cell_y: NDArray[np.int64], zone: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Land cover and character of each field, and of the water at the end."""
    lottery = hash_unit(cell_x[None, :], cell_y[:, None], zone + 3)
    cover = np.full(lottery.shape, FALLOW, np.int8)
    for bound, crop in reversed(_LOTTERY):
        cover[lottery < bound] = crop
    urban = value_noise(cell_x, cell_y, 12, zone + 4)
    woody = value_noise(cell_x, cell_y, 17, zone + 5)
    cover[woody > _FOREST_LEVEL] = FOREST
    cover[urban > _TOWN_LEVEL] = TOWN
    character = hash_unit(cell_x[None, :], cell_y[:, None], zone + 6)
    return np.append(cover.ravel(), np.int8(WATER)), np.append(character.ravel(), np.float32(0.5))
