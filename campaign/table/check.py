"""Is the user's table fit to run? The ids of its tiles, and every problem found in it, before a job costs anything."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pyproj
import shapely

from campaign.errors import InvalidInput
from campaign.table.columns import check_column
from campaign.tile import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

MANAGER_STATUSES = frozenset(
    {
        "not_started",
        "queued_for_start",
        "queued_for_start_failed",
        "created",
        "queued",
        "running",
        "finished",
        "error",
        "canceled",
        "start_failed",
        "skipped",
    }
)
"""Every status that `openeo.extra.job_management.MultiBackendJobManager` writes."""

TOLERANCE_DEGREES = 1.0
"""How far a geometry may reach beyond its CRS's area of use: a grid over a country straddles the edge of a UTM zone
(Belgium reaches 6.4 E in zone 31, whose area ends at 6 E), and 1 degree further costs less than 0.1% in scale."""

MAX_ID_LENGTH = 200
"""Ids become file names (255 bytes on most file systems) with something before and after them."""

RESERVED_IDS = frozenset({"campaign.json", "map.html"})
"""Files beside the tiles' folders; upper and lower case are one on some file systems."""

_SHOWN = 5
_WORLD_DEGREES = 360.0


def tile_ids(df: pd.DataFrame, column: str | None = None) -> list[str]:
    """The id of each row's tile, in the order of the table.

    Taken from `column` if given, else from `tile_id`, else from `tile`, else from the index if it is made of strings,
    else made from the row's position (`row-000017`: unchanged when rows are appended). Whole numbers become strings.

    Raises:
        InvalidInput: an id is missing, not unique or not made of letters, digits, `_`, `.` and `-`; or no such column.
    """
    source, values = _id_source(df, column)
    if values is None:
        return [f"row-{position:06d}" for position in range(len(df))]
    ids = [_as_id(value) for value in values]
    bad = [(row, values[row]) for row, text in enumerate(ids) if not _fits(text)]
    if bad:
        raise InvalidInput(
            f"{source}: {_listed(bad)} cannot be tile ids: letters, digits, '_', '.' and '-' only, the first one a "
            f"letter or digit, at most {MAX_ID_LENGTH}; rename them or give another column"
        )
    taken = [(row, text) for row, text in enumerate(ids) if text.lower() in RESERVED_IDS]
    if taken:
        raise InvalidInput(
            f"{source}: {_listed(taken)} cannot be tile ids: files of a campaign have these names; rename them"
        )
    first: dict[str, int] = {}
    again = [(row, text) for row, text in enumerate(ids) if first.setdefault(text, row) != row]
    if again:
        raise InvalidInput(
            f"{source}: {_listed(again)} were already used (the first one in row {first[again[0][1]]}): "
            "make the ids unique or give another column"
        )
    return ids


def check_table(df: pd.DataFrame) -> list[str]:
    """Every problem of the table, one line each; none if it can be run. Rows count from 0."""
    if len(df) == 0:
        return ["the table is empty"]
    duplicated = [str(name) for name in df.columns[df.columns.duplicated()]]
    if duplicated:
        return [f"column names must be unique, and these are not: {', '.join(duplicated)}"]
    problems = [problem for name in df.columns for problem in check_column(df[name])]
    return [*problems, *_reserved_columns(df), *_geometry(df)]


def _id_source(df: pd.DataFrame, column: str | None) -> tuple[str, list[Any] | None]:
    if column is not None and column not in df.columns:
        raise InvalidInput(f"no column {column!r} for the tile ids; there are {', '.join(map(str, df.columns))}")
    for name in ("tile_id", "tile") if column is None else (column,):
        if name in df.columns:
            return f"column {name!r}", df[name].tolist()
    labels = df.index.tolist()
    return ("the index", labels) if labels and all(isinstance(label, str) for label in labels) else ("", None)


def _as_id(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():  # a column of whole numbers that has a gap elsewhere
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _fits(text: str) -> bool:
    return NAME_PATTERN.fullmatch(text) is not None and len(text) <= MAX_ID_LENGTH


def _listed(rows: Sequence[tuple[int, object]]) -> str:
    shown = ", ".join(f"{value!r} (row {row})" for row, value in rows[:_SHOWN])
    return shown + (f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")


def _rows(mask: NDArray[np.bool_]) -> str:
    rows = mask.nonzero()[0].tolist()
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:_SHOWN]))}{more}"


def _reserved_columns(df: pd.DataFrame) -> Iterable[str]:
    """Columns in which the job manager keeps its own facts, filled with something else."""
    if "status" in df.columns:
        strange = [value for value in df["status"].dropna().unique().tolist() if value not in MANAGER_STATUSES]
        if strange:
            yield (
                f"column 'status' holds {', '.join(map(repr, strange[:_SHOWN]))}, which no job can have: it is where "
                "the status of the job belongs, so rename yours"
            )
            return
    if {"status", "backend_name"} <= set(df.columns):
        return  # a job database: these columns are what they should be
    for name in ("id", "start_time", "running_start_time", "costs"):
        if name in df.columns and df[name].notna().any():
            yield (
                f"column {name!r} is where the job manager keeps the job's {name.replace('_', ' ')}, and this table is no "
                f"job database: rename it{' (to tile_id, if it names the tiles)' if name == 'id' else ''}"
            )


def _geometry(df: pd.DataFrame) -> Iterable[str]:
    if not isinstance(df, gpd.GeoDataFrame):
        return
    if df.active_geometry_name not in df.columns:  # none was chosen, or it was dropped
        yield "the table has no active geometry column: choose one with set_geometry()"
        return
    name, geometry = df.active_geometry_name, df.geometry.array
    missing, empty = shapely.is_missing(geometry), shapely.is_empty(geometry)
    invalid = ~(shapely.is_valid(geometry) | missing | empty)
    if missing.any():
        yield f"no geometry in {_rows(missing)} (column {name!r})"
    if empty.any():
        yield f"an empty geometry in {_rows(empty)} (column {name!r})"
    if invalid.any():
        reason = shapely.is_valid_reason(geometry[int(invalid.nonzero()[0][0])])
        yield f"an invalid geometry in {_rows(invalid)} (column {name!r}): {reason}; shapely.make_valid() may mend it"
    if df.crs is None:
        yield f"column {name!r} has no CRS: say which one it is in with set_crs(), EPSG:4326 for longitude and latitude"
        return
    yield from _outside(df, missing | empty)


def _outside(df: Any, absent: NDArray[np.bool_]) -> Iterable[str]:
    bounds = df.geometry.bounds.to_numpy()
    outside = outside_area_of_use(df.crs, bounds) & ~absent
    if not outside.any():
        return
    first = bounds[outside.nonzero()[0][0]]
    hint = ""
    if df.crs.is_geographic:
        swapped = not outside_area_of_use(df.crs, bounds[outside][:, [1, 0, 3, 2]]).any()
        hint = "; are longitude and latitude swapped?" if swapped else "; are these metres?"
    yield (
        f"outside the area of use of {df.crs.name}: {_rows(outside)}; the first one reaches from "
        f"x {first[0]:,.10g}, y {first[1]:,.10g} to x {first[2]:,.10g}, y {first[3]:,.10g}{hint}"
    )


def outside_area_of_use(crs: pyproj.CRS, bounds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes reach more than `TOLERANCE_DEGREES` outside the CRS's area of use.

    Args:
        crs: without a known area of use nothing is outside.
        bounds: shape (n, 4): minx, miny, maxx, maxy in units of the CRS, x the easting or longitude.

    Returns:
        Shape (n,).
    """
    boxes = np.asarray(bounds, dtype=float).reshape(-1, 4)
    if crs.area_of_use is None:
        return np.zeros(len(boxes), dtype=bool)
    if crs.is_geographic:
        world: NDArray[np.bool_] = np.any((boxes < [-180, -90, -180, -90]) | (boxes > [180, 90, 180, 90]), axis=1)
        return world
    west, south, east, north = limits(crs, TOLERANCE_DEGREES)
    beyond = (boxes[:, :2] < [west, south]).any(axis=1) | (boxes[:, 2:] > [east, north]).any(axis=1)
    x, y = _outlines(boxes)
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    centre, south, width, north = _area(crs, TOLERANCE_DEGREES)
    away = np.abs((lon - centre + 180) % _WORLD_DEGREES - 180)
    inside = (away <= width / 2) & (lat >= south) & (lat <= north)
    outside: NDArray[np.bool_] = beyond | ~inside.all(axis=1)
    return outside


@lru_cache(maxsize=64)
def limits(crs: pyproj.CRS, margin: float = 0.0) -> tuple[float, float, float, float]:
    """The box around a projected CRS's area of use, widened by `margin` degrees, in units of the CRS."""
    centre, south, width, north = _area(crs, margin)
    lon, lat = np.meshgrid(np.linspace(centre - width / 2, centre + width / 2, 73), np.linspace(south, north, 73))
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    known = np.isfinite(x) & np.isfinite(y)
    return float(x[known].min()), float(y[known].min()), float(x[known].max()), float(y[known].max())


def _area(crs: pyproj.CRS, margin: float) -> tuple[float, float, float, float]:
    """Central longitude, southern latitude, width in longitude and northern latitude, in degrees."""
    area = crs.area_of_use
    if area is None:
        raise InvalidInput(f"the area of use of {crs.name} is not known")
    width = (area.east - area.west) % _WORLD_DEGREES or _WORLD_DEGREES  # areas may cross the antimeridian
    centre, half = area.west + width / 2, min(width / 2 + margin, 180.0)
    return centre, max(area.south - margin, -90.0), 2 * half, min(area.north + margin, 90.0)


def _outlines(boxes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points along the edge of each box, corners and quarters: two arrays of shape (n, 16)."""
    along, zero = np.arange(4) / 4, np.zeros(4)
    right = np.concatenate([along, zero + 1, 1 - along, zero])
    up = np.concatenate([zero, along, zero + 1, 1 - along])
    minx, miny, maxx, maxy = (boxes[:, [i]] for i in range(4))
    return minx + (maxx - minx) * right, miny + (maxy - miny) * up
