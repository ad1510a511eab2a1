"""From an area to a table of tiles: grids, and the columns that a `start_job` reads."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import antimeridian
import geopandas as gpd
import numpy as np
import pyproj
import shapely

from campaign.errors import InvalidInput
from campaign.table.check import limits, outside_area_of_use

if TYPE_CHECKING:
    from collections.abc import Sequence


MAX_CELLS = 1_000_000
"""More tiles than this are a slip (a size in kilometres), not a grid."""

_NAMES = ("minx", "miny", "maxx", "maxy")
_LONGEST_DEGREES = 360

Box = tuple[int, int, int, int]
"""minx, miny, maxx, maxy in whole metres."""


def utm_grid(*, bounds: Sequence[float], crs: Any, size: float) -> gpd.GeoDataFrame:
    """Square cells over a box in a UTM zone, or in any other projected CRS in metres.

    Cells start at minx, miny and are all whole, as with `np.arange(minx, maxx, size)`: where the box is not a multiple
    of `size`, the last column and row reach beyond it. They come column by column from the west, each one from the
    south. A cell's id and box depend on nothing but the cell, so a grid made again, or over a larger area
    that starts a whole number of cells further away, gives the same ids to the same cells.

    Cells may reach 1 degree outside the CRS's area of use (`campaign.table.check.TOLERANCE_DEGREES`).

    Args:
        bounds: minx, miny, maxx, maxy, whole metres in `crs`.
        crs: anything that pyproj understands and that has an EPSG code, e.g. `"EPSG:32631"`.
        size: edge of a cell, whole metres.

    Returns:
        One row per cell, index 0..n-1: `tile_id` (`32631_595000_5660000`: EPSG code and lower left corner), `epsg`,
        the exact box `west`, `south`, `east`, `north` in metres, and `geometry` in EPSG:4326 (the four corners; a cell
        across the antimeridian is a MultiPolygon of its two sides).

    Raises:
        InvalidInput: unknown, geographic or foot-based CRS; bounds that are empty, swapped or not whole metres; no
            positive size; more than `MAX_CELLS` cells; a grid that reaches outside the area of use.
    """
    system, epsg = _projected(crs)
    edge = _whole([size], ["size"])[0]
    if edge <= 0:
        raise InvalidInput(f"size must be more than 0 metres: {size}")
    box = _ordered_box(bounds)
    columns, rows = _counts(box, edge)
    _refuse_outside(system, epsg, box, edge)
    if columns * rows > MAX_CELLS:
        raise InvalidInput(f"{columns * rows:,} cells of {edge:,} m are more than {MAX_CELLS:,}: size is in metres")
    west = np.repeat(box[0] + edge * np.arange(columns, dtype=np.int64), rows)
    south = np.tile(box[1] + edge * np.arange(rows, dtype=np.int64), columns)
    corners = {"west": west, "south": south, "east": west + edge, "north": south + edge}
    ids = [f"{epsg}_{x}_{y}" for x, y in zip(west.tolist(), south.tolist(), strict=True)]
    return gpd.GeoDataFrame(
        {"tile_id": ids, "epsg": epsg, **corners}, geometry=_lonlat_cells(system, [*corners.values()]), crs="EPSG:4326"
    )


def prepare_jobs_df(temporal_range: Sequence[Any], grid_df: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The table of jobs over a grid: what a `start_job` that reads these columns needs.

    Args:
        temporal_range: start (included) and end (excluded): ISO strings, dates or datetimes; None leaves one side open.
        grid_df: the tiles, in any CRS.

    Returns:
        A copy of `grid_df`, same index and columns, with `spatial_extent` (the geometry in longitude and latitude as a
        GeoJSON string), `start_date` and `end_date` (ISO strings). A column `id` becomes `tile_id` unless there is one:
        in a table of jobs `id` is the job's.

    Raises:
        InvalidInput: not two dates in order, a geometry without CRS, or a row without geometry.
    """
    start, end = _interval(temporal_range)
    if grid_df.crs is None:
        raise InvalidInput("the grid has no CRS: say which one it is in with set_crs()")
    lonlat = grid_df.geometry.to_crs("EPSG:4326").array
    missing = shapely.is_missing(lonlat)
    if missing.any():
        raise InvalidInput(
            f"the grid has no geometry in {int(missing.sum())} rows, first in row {int(missing.argmax())}"
        )
    named = grid_df if "tile_id" in grid_df.columns else grid_df.rename(columns={"id": "tile_id"})
    return named.assign(spatial_extent=shapely.to_geojson(lonlat), start_date=start, end_date=end)


def _projected(crs: Any) -> tuple[pyproj.CRS, int]:
    """The CRS and its EPSG code."""
    try:
        system = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise InvalidInput(f"unknown CRS {crs!r}: give a projected one such as 'EPSG:32631'") from error
    metres = system.is_projected and all(axis.unit_conversion_factor == 1.0 for axis in system.axis_info)
    epsg = system.to_epsg()
    if not metres or epsg is None:
        kind = "is geographic" if system.is_geographic else "is not projected in metres with an EPSG code"
        raise InvalidInput(f"{crs!r} ({system.name}) {kind}: a grid of square cells needs e.g. 'EPSG:32631'")
    return system, epsg


def _whole(values: Sequence[float], names: Sequence[str]) -> list[int]:
    for name, value in zip(names, values, strict=True):
        if not math.isfinite(value) or value != math.floor(value):
            raise InvalidInput(f"{name} must be whole metres, so that cells and their ids are exact: {value!r}")
    return [int(value) for value in values]


def _ordered_box(bounds: Sequence[float]) -> Box:
    if len(bounds) != len(_NAMES):
        raise InvalidInput(f"bounds are minx, miny, maxx, maxy: {len(bounds)} numbers given")
    numbers = [float(value) for value in bounds]
    if all(abs(value) <= _LONGEST_DEGREES for value in numbers):
        raise InvalidInput(f"bounds {tuple(numbers)} look like degrees: give metres in the grid's CRS")
    minx, miny, maxx, maxy = _whole(bounds, _NAMES)
    for axis, low, high in (("x", minx, maxx), ("y", miny, maxy)):
        if low >= high:
            slip = "are empty" if low == high else "are swapped"
            raise InvalidInput(f"bounds {slip}: min{axis} {low:,} is not less than max{axis} {high:,}")
    return minx, miny, maxx, maxy


def _counts(box: Box, edge: int) -> tuple[int, int]:
    """Columns and rows of whole cells that cover the box."""
    return -((box[0] - box[2]) // edge), -((box[1] - box[3]) // edge)


def _covered(box: Box, edge: int) -> Box:
    columns, rows = _counts(box, edge)
    return box[0], box[1], box[0] + columns * edge, box[1] + rows * edge


def _refuse_outside(system: pyproj.CRS, epsg: int, box: Box, edge: int) -> None:
    def fits(candidate: Box) -> bool:
        return not outside_area_of_use(system, np.array([_covered(candidate, edge)]))[0]

    if fits(box):
        return
    columns, rows = _counts(box, edge)
    raise InvalidInput(
        f"the grid of {columns * rows:,} cells reaches outside the area of use of EPSG:{epsg} ({system.name}): "
        f"{_slip(system, box)}{_hint(box, edge, fits)}"
    )


def _slip(system: pyproj.CRS, box: Box) -> str:
    """Which bound is out, in metres if it is out of the box around the area of use, else in degrees."""
    west, south, east, north = limits(system)
    beyond = [west - box[0], south - box[1], box[2] - east, box[3] - north]
    if max(beyond) > 0:
        worst = beyond.index(max(beyond))
        return (
            f"{_NAMES[worst]} is {box[worst]:,}, and the area lies within x {west:,.0f} to {east:,.0f}, "
            f"y {south:,.0f} to {north:,.0f} m"
        )
    to_lonlat = pyproj.Transformer.from_crs(system, "EPSG:4326", always_xy=True)
    area: Any = system.area_of_use
    reach = to_lonlat.transform_bounds(*box)
    return (
        f"it reaches from {reach[0]:.2f} to {reach[2]:.2f} degrees east and {reach[1]:.2f} to {reach[3]:.2f} north, "
        f"and the area from {area.west:g} to {area.east:g} and {area.south:g} to {area.north:g}"
    )


def _hint(box: Box, edge: int, fits: Any) -> str:
    for i, name in enumerate(_NAMES):
        minx, miny, maxx, maxy = [value // 10 if i == j else value for j, value in enumerate(box)]
        shorter = (minx, miny, maxx, maxy)
        if box[i] % 10 == 0 and minx < maxx and miny < maxy and fits(shorter):
            columns, rows = _counts(shorter, edge)
            return f"; did you mean {name} {box[i] // 10:,} ({columns * rows:,} cells)?"
    if fits((box[1], box[0], box[3], box[2])):
        return "; are x and y swapped?"
    return "; use the zone that the area lies in, or one grid per zone"


def _lonlat_cells(system: pyproj.CRS, corners: Sequence[Any]) -> gpd.GeoSeries:
    cells = gpd.GeoSeries(shapely.box(*corners), crs=system).to_crs("EPSG:4326")
    spans = cells.bounds["maxx"] - cells.bounds["minx"]
    for row in (spans > _LONGEST_DEGREES / 2).to_numpy().nonzero()[0].tolist():
        cells.iloc[row] = antimeridian.fix_polygon(cells.iloc[row], fix_winding=False)
    return cells


def _interval(temporal_range: Sequence[Any]) -> tuple[str | None, str | None]:
    if isinstance(temporal_range, str) or len(temporal_range) != 2:  # noqa: PLR2004
        raise InvalidInput(f"temporal_range is a start and an end: {temporal_range!r}")
    start, end = (value.isoformat() if isinstance(value, date | datetime) else value for value in temporal_range)
    try:
        reversed_ = datetime.fromisoformat(start) >= datetime.fromisoformat(end)
    except (TypeError, ValueError):  # an open side, a month or a year: for the back-end to judge
        reversed_ = False
    if reversed_:
        raise InvalidInput(f"temporal_range ends at {end}, not after its start {start} (the end is not included)")
    return start, end
