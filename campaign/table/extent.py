"""The geometry of tables that have none but say where each tile is: the column `spatial_extent` of `prepare_jobs_df`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pyproj
import shapely

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "spatial_extent"
"""GeoJSON or a box (`west`, `south`, `east`, `north`, `crs`), as text or as dict."""

_SIDES = ("west", "south", "east", "north")
_POINTS_PER_SIDE = 10


def with_geometry(df: pd.DataFrame) -> pd.DataFrame:
    """The table with a column `geometry` in EPSG:4326, from `spatial_extent` where it has no geometries of its own.

    Returns:
        `df` itself when it has geometries, or when no row says where it is; a row that does not has none.
    """
    if isinstance(df, gpd.GeoDataFrame) or COLUMN not in df.columns or "geometry" in df.columns:
        return df
    geometries = [_geometry(value) for value in df[COLUMN].tolist()]
    if not any(geometries):
        return df
    geo: pd.DataFrame = gpd.GeoDataFrame(df, geometry=geometries, crs="EPSG:4326")
    return geo


def _geometry(extent: Any) -> Any:
    """The geometry of one extent in longitude and latitude, None if it cannot be told."""
    try:
        described = json.loads(extent) if isinstance(extent, str) else extent
        if not isinstance(described, dict):
            return None
        if set(_SIDES) <= set(described):
            return _box(described)
        return _union(described)
    except (ValueError, TypeError, KeyError, shapely.errors.ShapelyError, pyproj.exceptions.ProjError):
        return None


def _box(described: dict[str, Any]) -> Any:
    """A box of any CRS, its sides as many short lines: they may be curves in longitude and latitude."""
    west, south, east, north = (float(described[side]) for side in _SIDES)
    crs = pyproj.CRS.from_user_input(described.get("crs") or "EPSG:4326")
    box = shapely.box(west, south, east, north)
    if crs.is_geographic:
        return box
    dense = shapely.segmentize(box, max(east - west, north - south) / _POINTS_PER_SIDE)
    to_lonlat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return shapely.transform(dense, lambda points: np.column_stack(to_lonlat.transform(*points.T)))


def _union(described: dict[str, Any]) -> Any:
    """GeoJSON of any kind as one geometry."""
    kind = described.get("type")
    if kind == "FeatureCollection":
        return shapely.union_all([_union(feature) for feature in described["features"]])
    if kind == "Feature":
        return _union(described["geometry"])
    return shapely.from_geojson(json.dumps(described))
