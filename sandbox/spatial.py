"""Processes over geometries that openeo-processes-dask-slim lacks; GeoJSON comes as text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import xarray as xr

from sandbox.errors import OpenEOError
from sandbox.grid import geometry_of, reproject

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry


def mask_polygon(
    data: xr.DataArray,
    mask: str,
    replacement: float | None = None,
    inside: bool = False,  # noqa: FBT001, FBT002 - openEO's signature
) -> xr.DataArray:
    """Replace the pixels outside of polygons (or inside of them)."""
    within = xr.DataArray(_within(data, _project(data, json.loads(mask))), dims=("y", "x"))
    keep = ~within if inside else within
    return data.where(keep, np.nan if replacement is None else replacement)


def filter_spatial(data: xr.DataArray, geometries: str) -> xr.DataArray:
    """Crop to the polygons' extent and mask what lies outside of them."""
    geometry = _project(data, json.loads(geometries))
    west, south, east, north = geometry.bounds
    cropped = data.sel(x=(data.x > west) & (data.x < east), y=(data.y > south) & (data.y < north))
    if not cropped.size:
        raise OpenEOError("NoDataAvailable", "The geometries do not touch the cube.")
    return cropped.where(xr.DataArray(_within(cropped, geometry), dims=("y", "x")))


def aggregate_spatial(
    data: xr.DataArray,
    geometries: str,
    reducer: Callable[..., Any],
    target_dimension: str | None = None,
    context: Any = None,
) -> xr.DataArray:
    """Reduce the pixels of each geometry to one value per time step and band.

    A pixel belongs to a geometry if its centre lies in it. Returns a cube with the dimension `geometry` first.
    """
    geojson = json.loads(geometries)
    features = geojson["features"] if geojson["type"] == "FeatureCollection" else [geojson]
    name = target_dimension or "geometry"
    reduced = []
    for feature in features:
        within = _within(data, _project(data, {**feature, "crs": geojson.get("crs")}))
        rows, cols = np.nonzero(within)
        pixels = data.isel(y=xr.DataArray(rows, dims="pixel"), x=xr.DataArray(cols, dims="pixel")).drop_vars(["x", "y"])
        reduced.append(_reduce(pixels, reducer, context) if rows.size else xr.full_like(pixels.mean("pixel"), np.nan))
    return xr.concat(reduced, dim=name, coords="minimal", compat="override").assign_coords(
        {name: np.arange(len(features))}
    )


def _reduce(pixels: xr.DataArray, reducer: Callable[..., Any], context: Any) -> xr.DataArray:
    return pixels.reduce(reducer, dim="pixel", positional_parameters={"data": 0}, context=context)


def _project(data: xr.DataArray, geojson: dict[str, Any]) -> BaseGeometry:
    geometry, epsg, _ = geometry_of(geojson)
    return reproject(geometry, epsg, data.odc.crs.to_epsg())


def _within(data: xr.DataArray, geometry: BaseGeometry) -> NDArray[np.bool_]:
    """True where a pixel's centre lies in the geometry, shape (y, x)."""
    x, y = np.meshgrid(data["x"].values, data["y"].values)
    return np.asarray(shapely.contains_xy(geometry, x, y), np.bool_)
