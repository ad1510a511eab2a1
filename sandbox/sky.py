"""When a generated scene is taken and what clouds are in it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np

from sandbox.noise import hash_one, hash_unit, value_noise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sandbox.grid import Window

#: Days between two scenes of a place.
REVISIT = 5
#: First day with scenes: Sentinel-2A's first year.
FIRST_DAY = dt.date(2015, 7, 4)
#: Spacing of the field of cloud cover, pixels: about the size of a Sentinel-2 tile.
WEATHER = 10_000
#: How far a cloud's shadow lies from it, pixels to the east and to the north.
SHADOW = (24, -18)
_MARGIN = 32
_LOCAL_HOUR = 10.5
_ZONE_CENTRE, _ZONE_WIDTH = -183.0, 6.0


def acquisitions(epsg: int, start: dt.datetime | None, end: dt.datetime | None) -> Iterator[dt.datetime]:
    """Times of acquisition in a zone from `start` until before `end` (UTC); about 10:30 of local solar time.

    Open ends stand for the first day with scenes and for the end of yesterday.
    """
    zone = epsg % 100
    lon = _ZONE_CENTRE + _ZONE_WIDTH * zone
    hours = _LOCAL_HOUR - lon / 15.0
    phase = int(hash_one(zone, 0, 71) * REVISIT)
    today = dt.datetime.combine(dt.datetime.now(dt.UTC).date(), dt.time(), dt.UTC)
    end = min(end or today, today)
    first = max(FIRST_DAY, start.date() - dt.timedelta(1)) if start else FIRST_DAY
    day = first + dt.timedelta((phase - first.toordinal()) % REVISIT)
    while day <= end.date():
        taken = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(minutes=round(hours * 60))
        if (start is None or taken >= start) and taken < end:
            yield taken
        day += dt.timedelta(REVISIT)


def cloudiness(weather_col: NDArray[np.int64], weather_row: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Share of clouds (0-1) at points of the weather lattice: a third of them clear, a quarter overcast."""
    share: NDArray[np.float32] = np.clip(
        hash_unit(weather_col, weather_row, seed) * np.float32(1.7) - np.float32(0.55), 0, 1
    )
    return share


def scene_cells(window: Window) -> list[tuple[int, int]]:
    """The 100 km squares (column, row) a window touches: each is one scene of a date."""
    cols = range(window.col // WEATHER, (window.col + window.width - 1) // WEATHER + 1)
    rows = range((window.row - window.height) // WEATHER, (window.row - 1) // WEATHER + 1)
    return [(col, row) for row in rows for col in cols]


def scene_cloud_cover(cell: tuple[int, int], seed: int) -> float:
    """The property eo:cloud_cover of a scene, percent: the mean of its corners."""
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    return round(float(cloudiness(corners[:, 0] + cell[0], corners[:, 1] + cell[1], seed).mean()) * 100.0, 2)


def date_seed(day: dt.date, epsg: int) -> int:
    """Seed of everything that changes from date to date."""
    return day.toordinal() * 131 + epsg


def clouds(window: Window, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Thickness of the clouds (0 is clear, 1 is opaque) and where their shadows fall, both (height, width)."""
    cols = np.arange(window.col - _MARGIN, window.col + window.width + _MARGIN, dtype=np.int64)
    rows = np.arange(window.row + _MARGIN, window.row - window.height - _MARGIN, -1, dtype=np.int64)
    clear = np.zeros((window.height, window.width), np.float32)
    share = _share(cols, rows, seed)
    if float(share.max()) <= 0.0:
        return clear, clear > 0
    shapes = np.float32(0.55) * value_noise(cols, rows, 260, seed + 1)
    shapes += np.float32(0.30) * value_noise(cols, rows, 90, seed + 2)
    shapes += np.float32(0.15) * value_noise(cols, rows, 22, seed + 3)
    thickness = np.clip((shapes - (np.float32(0.82) - np.float32(0.64) * share)) * np.float32(9), 0, 1)
    inner = slice(_MARGIN, -_MARGIN)
    top, left = _MARGIN + SHADOW[1], _MARGIN - SHADOW[0]
    cast = thickness[top : top + window.height, left : left + window.width] > np.float32(0.5)
    thickness = thickness[inner, inner]
    return thickness, cast & (thickness < np.float32(0.3))


def _share(cols: NDArray[np.int64], rows: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Share of clouds wanted at each pixel: the weather lattice, blended linearly."""
    x, y = cols // WEATHER, rows // WEATHER
    fx, fy = ((index % WEATHER / WEATHER).astype(np.float32) for index in (cols, rows))
    corner = [[cloudiness((x + dx)[None, :], (y + dy)[:, None], seed) for dx in (0, 1)] for dy in (0, 1)]
    lower, upper = (left + (right - left) * fx[None, :] for left, right in corner)
    share: NDArray[np.float32] = lower + (upper - lower) * fy[:, None]
    return share
