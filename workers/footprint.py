"""Where a raster lies on the Earth: its footprint in longitude and latitude, and the size of its pixels in metres."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import antimeridian
import numpy as np
import shapely
from pyproj import Geod, Transformer
from pyproj.exceptions import ProjError
from shapely.geometry import Polygon, mapping
from shapely.geometry.polygon import orient

if TYPE_CHECKING:
    from pyproj import CRS

EDGE_POINTS = 20
"""Points per edge before reprojection: straight edges become curves."""
TOLERANCE = 1e-6
"""Degrees, about 0.1 m: points that bend an edge less are left out."""
DECIMALS = 7
FULL_TURN = 360.0

_GEOD = Geod(ellps="WGS84")


def footprint(crs: CRS, bounds: tuple[float, float, float, float]) -> dict[str, Any] | None:
    """GeoJSON (Multi)Polygon in EPSG:4326 of `bounds` in `crs`, cut at the antimeridian; None if it has no place there.

    Args:
        crs: of the file.
        bounds: xmin, ymin, xmax, ymax in units of `crs`.
    """
    try:
        transformer = _transformer(crs)
        lon, lat = transformer.transform(*_ring(bounds))
    except ProjError:  # a local or engineering CRS
        return None
    finite = np.isfinite(lon) & np.isfinite(lat)
    if finite.sum() < 3:  # noqa: PLR2004 - a polygon has three corners
        return None
    lon, lat = np.unwrap(lon[finite], period=FULL_TURN), np.clip(lat[finite], -90.0, 90.0)
    if crs.is_geographic and bounds[2] - bounds[0] >= FULL_TURN - TOLERANCE:
        lon, lat = np.array([-180.0, 180.0, 180.0, -180.0]), np.array([lat.min(), lat.min(), lat.max(), lat.max()])
    ring = Polygon(np.column_stack([lon, lat]))
    if abs(lon[-1] - lon[0]) < FULL_TURN / 2:  # else it goes around a pole, and has no inside until it is cut
        ring = orient(Polygon(shapely.get_coordinates(ring.simplify(TOLERANCE))))
    try:
        cut = antimeridian.fix_polygon(ring, fix_winding=False, great_circle=False)
    except ValueError:  # it crosses itself: the corners lie outside of what the projection can show
        return None
    return _rounded(mapping(cut))


@lru_cache(maxsize=64)
def _transformer(crs: CRS) -> Transformer:
    # Costs milliseconds; a campaign has few CRSs.
    return Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)


def _ring(bounds: tuple[float, float, float, float]) -> tuple[Any, Any]:
    """Counter-clockwise, `EDGE_POINTS` an edge, not closed."""
    west, south, east, north = bounds
    part = np.linspace(0, 1, EDGE_POINTS, endpoint=False)
    zero = np.zeros_like(part)
    x = np.concatenate([west + (east - west) * part, east + zero, east - (east - west) * part, west + zero])
    y = np.concatenate([south + zero, south + (north - south) * part, north + zero, north - (north - south) * part])
    return x, y


def _rounded(geometry: Any) -> dict[str, Any]:
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    rounded = [[[[round(v, DECIMALS) for v in point] for point in ring] for ring in polygon] for polygon in polygons]
    # An edge on the antimeridian leaves a sliver of no width on its other side.
    solid = [polygon for polygon in rounded if len({point[0] for point in polygon[0]}) > 1]
    if len(solid) == 1:
        return {"type": "Polygon", "coordinates": solid[0]}
    return {"type": "MultiPolygon", "coordinates": solid}


def pixel_size(crs: CRS, transform: tuple[float, ...], bounds: tuple[float, float, float, float]) -> float:
    """Mean pixel side in metres, in mm steps: in the CRS's own plane, or on the ellipsoid at the raster's centre."""
    width, height = abs(transform[0]), abs(transform[4])
    if not crs.is_geographic:
        factor: float = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
        return round((width + height) / 2 * factor, 3)
    lon, lat = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    across: float
    along: float
    _, _, across = _GEOD.inv(lon, lat, lon + width, lat)
    _, _, along = _GEOD.inv(lon, lat - height / 2, lon, lat + height / 2)
    return round((across + along) / 2, 3)
