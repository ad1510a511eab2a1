"""From the extent of a request to a window of pixels on a UTM grid."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import shapely
from shapely.geometry import shape

from sandbox.errors import OpenEOError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

#: Pixel size of the grid, m.
RESOLUTION = 10.0
#: An edge this close to a pixel's edge (in pixels) lies on it: GeoJSON written with 7 decimals is off by about 1 cm.
SNAP = 0.02
WGS84 = 4326
_UTM_NORTH, _UTM_SOUTH = 32600, 32700
_ZONES = 60
_LON_PER_ZONE = 6.0
_HALF_TURN, _ON_MERIDIAN = 180.0, 1e-9


@dataclass(frozen=True)
class Grid:
    """A regular UTM grid: `x0`, `y0` is any pixel corner of it, m."""

    epsg: int
    x0: float = 0.0
    y0: float = 0.0


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels, addressed by its upper left pixel, with an optional mask geometry in the grid's CRS."""

    grid: Grid
    col: int
    """Column of the left pixel, counted from the grid's `x0` to the east."""
    row: int
    """Row of the top edge, counted from the grid's `y0` to the north."""
    width: int
    height: int
    mask: BaseGeometry | None = None

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in the grid's CRS, m."""
        left, top = self.grid.x0 + self.col * RESOLUTION, self.grid.y0 + self.row * RESOLUTION
        return left, top - self.height * RESOLUTION, left + self.width * RESOLUTION, top

    @cached_property
    def x(self) -> NDArray[np.float64]:
        """Pixel centres to the east, m, shape (width,)."""
        x: NDArray[np.float64] = self.grid.x0 + (self.col + np.arange(self.width, dtype=np.float64) + 0.5) * RESOLUTION
        return x

    @cached_property
    def y(self) -> NDArray[np.float64]:
        """Pixel centres to the north, falling, m, shape (height,)."""
        y: NDArray[np.float64] = self.grid.y0 + (self.row - np.arange(self.height, dtype=np.float64) - 0.5) * RESOLUTION
        return y

    def outside(self) -> NDArray[np.bool_] | None:
        """True where a pixel's centre lies outside of the mask, shape (height, width); None if every pixel is in."""
        if self.mask is None:
            return None
        inside = shapely.contains_xy(self.mask, *np.meshgrid(self.x, self.y))
        return None if inside.all() else ~inside


def utm_epsg(lon: float, lat: float) -> int:
    """EPSG code of the UTM zone of a place (degrees)."""
    zone = int((lon + 180.0) // _LON_PER_ZONE) % _ZONES + 1
    return (_UTM_SOUTH if lat < 0 else _UTM_NORTH) + zone


def is_utm(epsg: int) -> bool:
    """Whether an EPSG code is a WGS 84 UTM zone."""
    return any(base < epsg <= base + _ZONES for base in (_UTM_NORTH, _UTM_SOUTH))


def parse_epsg(crs: Any) -> int:
    """EPSG code out of what clients send: 32631, "32631", "EPSG:32631", WKT, nothing (4326).

    Raises:
        OpenEOError: when it cannot be read.
    """
    if crs in (None, ""):
        return WGS84
    try:
        text = str(crs)
        found = re.fullmatch(r"(?:EPSG:)?(\d+)", text.strip(), re.IGNORECASE)
        epsg = int(found[1]) if found else pyproj.CRS.from_user_input(text).to_epsg()
        if epsg is None:
            raise OpenEOError("ProcessParameterInvalid", f"The CRS {text!r} has no EPSG code.")
        pyproj.CRS.from_epsg(epsg)
    except pyproj.exceptions.CRSError as error:
        raise OpenEOError("ProcessParameterInvalid", f"The CRS {crs!r} is not understood.") from error
    return epsg


def geometry_of(extent: dict[str, Any]) -> tuple[BaseGeometry, int, bool]:
    """Geometry of an extent, its EPSG code, and whether it masks (GeoJSON does, a bounding box does not).

    Raises:
        OpenEOError: when the extent is neither a bounding box nor GeoJSON with polygons.
    """
    try:
        if "west" in extent:
            west, east = float(extent["west"]), float(extent["east"])
            epsg = parse_epsg(extent.get("crs"))
            if epsg == WGS84 and west > east:
                east += 360.0
            return shapely.box(west, float(extent["south"]), east, float(extent["north"])), epsg, False
        crs = extent.get("crs")
        name = crs.get("properties", {}).get("name", "") if isinstance(crs, dict) else crs
        epsg = WGS84 if "CRS84" in str(name) else parse_epsg(str(name or "").replace("urn:ogc:def:crs:EPSG::", ""))
        geometry = _joined(_geometries(extent), epsg)
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.GEOSException) as error:
        raise OpenEOError("ProcessParameterInvalid", f"The spatial extent is not understood: {error!r}") from error
    if geometry.is_empty:
        raise OpenEOError("ProcessParameterInvalid", "The spatial extent is empty.")
    return geometry, epsg, True


def _geometries(geojson: dict[str, Any]) -> list[BaseGeometry]:
    if geojson["type"] == "FeatureCollection":
        return [geometry for feature in geojson["features"] for geometry in _geometries(feature)]
    return [shape(geojson["geometry"] if geojson["type"] == "Feature" else geojson)]


def _joined(geometries: list[BaseGeometry], epsg: int) -> BaseGeometry:
    """One geometry; what crosses the antimeridian is put together beyond 180 degrees again, split or not."""
    joined = shapely.union_all(geometries)
    if epsg != WGS84 or joined.is_empty or joined.bounds[2] - joined.bounds[0] <= _HALF_TURN:
        return joined
    east = [shapely.transform(geometry, _eastwards) for geometry in geometries]
    joined = shapely.union_all(east)
    if not isinstance(joined, shapely.Polygon):
        return joined
    # Where a splitter cut, it left corners that were none, and that lie off a UTM tile's straight edge by a metre.
    return shapely.Polygon([corner for corner in joined.exterior.coords if abs(corner[0] - _HALF_TURN) > _ON_MERIDIAN])


def _eastwards(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([np.where(corners[:, 0] < 0, corners[:, 0] + 2 * _HALF_TURN, corners[:, 0]), corners[:, 1]])


def reproject(geometry: BaseGeometry, source: int, target: int) -> BaseGeometry:
    """A geometry in another CRS, vertex by vertex: what was a square of the target grid is one again."""
    if source == target:
        return geometry
    transformer = transformer_of(source, target)
    return shapely.transform(geometry, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))


@functools.cache
def transformer_of(source: int, target: int) -> pyproj.Transformer:
    """The transformer between two EPSG codes, x before y; made once, as that takes longer than using it."""
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def native_grid(extent: dict[str, Any]) -> Grid:
    """The UTM grid a request is answered on.

    The zone of a bounding box given in UTM; else the zone in which the geometry's corners lie on pixel corners (a tile
    of a UTM grid, also where it reaches over its zone's edge); else the zone of the centre.
    """
    geometry, epsg, _ = geometry_of(extent)
    if is_utm(epsg):
        return Grid(epsg)
    [[lon, lat]] = shapely.get_coordinates(reproject(geometry.envelope.centroid, epsg, WGS84)).tolist()
    home = utm_epsg(lon, lat)
    zones = [home, utm_epsg(lon - _LON_PER_ZONE, lat), utm_epsg(lon + _LON_PER_ZONE, lat)]
    return Grid(next((zone for zone in zones if _on_grid(reproject(geometry, epsg, zone))), home))


def _on_grid(geometry: BaseGeometry) -> bool:
    corners = shapely.get_coordinates(geometry) / RESOLUTION
    return bool(np.isfinite(corners).all() and (np.abs(corners - np.round(corners)) < SNAP).all())


def window_of(extent: dict[str, Any], grid: Grid) -> Window:
    """The pixels of a grid that an extent covers, snapped outwards unless an edge lies on a pixel's edge already.

    Raises:
        OpenEOError: when the extent cannot be read or projected.
    """
    geometry, epsg, masks = geometry_of(extent)
    if not masks and epsg != grid.epsg:
        geometry = shapely.segmentize(geometry, max(geometry.length / 80.0, 1e-9))
    projected = reproject(geometry, epsg, grid.epsg)
    edges = (np.array(projected.bounds) - [grid.x0, grid.y0] * 2) / RESOLUTION
    if not np.isfinite(edges).all():
        raise OpenEOError("ProcessParameterInvalid", "The spatial extent cannot be projected.")
    left, bottom = np.floor(edges[:2] + SNAP).astype(int).tolist()
    right, top = np.ceil(edges[2:] - SNAP).astype(int).tolist()
    width, height = max(right - left, 1), max(top - bottom, 1)
    return Window(grid, left, top, width, height, projected if masks else None)
