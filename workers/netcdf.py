"""What a NetCDF file says of itself, as openEO back-ends write it: band variables on `(t, y, x)` and a `crs` variable."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
from pyproj import CRS
from pyproj.exceptions import CRSError
from pystac import MediaType

from workers.failures import UnreadableResult
from workers.raster import Band, Raster, blocks, json_number, sorted_bounds, stac_data_type

if TYPE_CHECKING:
    from pathlib import Path

NETCDF_SUFFIXES = frozenset({".nc", ".nc4", ".netcdf"})
X_NAMES = frozenset({"x", "lon", "longitude"})
Y_NAMES = frozenset({"y", "lat", "latitude"})
TIME_NAMES = frozenset({"t", "time"})

_LOCK = threading.Lock()
# The netCDF and HDF5 C libraries are not thread-safe and netCDF4 releases the GIL.


def read_netcdf(file: Path) -> Raster:
    """The raster in a NetCDF file; the statistics of a band go over all its times.

    Raises:
        UnreadableResult: it cannot be read to its end, or no variable lies on an x and a y dimension.
    """
    try:
        with _LOCK, netCDF4.Dataset(file) as dataset:
            return _describe(file, dataset)
    except (OSError, RuntimeError) as e:
        raise UnreadableResult(f"{file}: damaged or not a NetCDF file: {e}") from e


def _describe(file: Path, dataset: Any) -> Raster:
    dataset.set_auto_maskandscale(False)
    dataset.set_auto_mask(True)
    x, y = (_axis(dataset, names) for names in (X_NAMES, Y_NAMES))
    variables = [
        v for v in dataset.variables.values() if {x, y} <= set(v.dimensions) and getattr(v.dtype, "kind", "") in "iuf"
    ]
    if not x or not y or not variables:
        raise UnreadableResult(f"{file}: no variable on an x and a y dimension")
    time = next((d for d in variables[0].dimensions if _is_time(dataset, d)), "")
    bands = [band for v in variables for band in _bands(dataset, v, {x, y, time})]
    transform, bounds = _grid(dataset[x][:], dataset[y][:])
    return Raster(
        media_type=MediaType.NETCDF.value,
        crs=_crs(dataset, variables[0], x),
        shape=(dataset.dimensions[y].size, dataset.dimensions[x].size),
        transform=transform,
        bounds=bounds,
        bands=bands,
        interval=_interval(dataset, time),
    )


def _axis(dataset: Any, names: frozenset[str]) -> str:
    """The dimension that has a coordinate variable of its own and one of `names`."""
    return next((d for d in dataset.dimensions if d.lower() in names and d in dataset.variables), "")


def _is_time(dataset: Any, dimension: str) -> bool:
    units = str(getattr(dataset.variables.get(dimension), "units", ""))
    return dimension.lower() in TIME_NAMES or " since " in units


def _bands(dataset: Any, variable: Any, plain: set[str]) -> list[Band]:
    """One band per variable, or per label of its band dimension; statistics go over all times."""
    axis = next((i for i, d in enumerate(variable.dimensions) if d not in plain), None)
    labels = [None] if axis is None else _labels(dataset, variable.dimensions[axis])
    prefix = "" if variable.name == "__xarray_dataarray_variable__" else variable.name
    bands = []
    nodata = getattr(variable, "_FillValue", getattr(variable, "missing_value", None))
    for index, label in enumerate(labels):
        name = "_".join(filter(None, [prefix, label])) or variable.name
        band = Band(
            name, stac_data_type(variable.dtype), json_number(None if nodata is None else np.ravel(nodata)[0].item())
        )
        band.unit = str(getattr(variable, "units", ""))
        band.scale, band.offset = (float(getattr(variable, a, d)) for a, d in (("scale_factor", 1), ("add_offset", 0)))
        chunks = variable.chunking()
        chunk = chunks if isinstance(chunks, list) else [*[1] * (variable.ndim - 2), *variable.shape[-2:]]
        for block in blocks(variable.shape, chunk):
            where = list(block)
            if axis is not None and not block[axis].start <= index < block[axis].stop:
                continue
            if axis is not None:
                where[axis] = slice(index, index + 1)
            band.statistics.add(np.ma.asarray(variable[tuple(where)]))
        bands.append(band)
    return bands


def _labels(dataset: Any, dimension: str) -> list[str]:
    size = dataset.dimensions[dimension].size
    if dimension not in dataset.variables:
        return [str(i + 1) for i in range(size)]
    values = dataset[dimension][:]
    if values.ndim > 1:
        values = netCDF4.chartostring(values)
    return [str(value) for value in values]


def _grid(x: Any, y: Any) -> tuple[tuple[float, ...] | None, tuple[float, float, float, float] | None]:
    """Transform and outer edges from the pixel centres, in the order in which the file has them."""
    (x0, dx), (y0, dy) = _steps(x), _steps(y)
    if dx is None and dy is None:
        return None, None
    # One pixel has no spacing: take the other axis's, north up.
    dx = abs(dy or 0.0) if dx is None else dx
    dy = -abs(dx) if dy is None else dy
    left, top = x0 - dx / 2, y0 - dy / 2
    bounds = sorted_bounds((left, top, left + dx * len(x), top + dy * len(y)))
    regular = all(
        np.allclose(np.diff(np.asarray(axis, dtype=np.float64)), step, rtol=0, atol=abs(step) / 100)
        for axis, step in ((x, dx), (y, dy))
    )
    return ((dx, 0.0, left, 0.0, dy, top) if regular else None), bounds


def _steps(axis: Any) -> tuple[float, float | None]:
    first, last = float(axis[0]), float(axis[-1])
    if len(axis) == 1:
        return first, None
    # Twelve digits: the noise of 0.1 + 0.2 is not part of a grid.
    return first, float(f"{(last - first) / (len(axis) - 1):.12g}")


def _crs(dataset: Any, variable: Any, x: str) -> CRS | None:
    """From the CF grid mapping, or from the `crs` or `spatial_ref` variable that openEO back-ends write."""
    for name in (getattr(variable, "grid_mapping", ""), "crs", "spatial_ref"):
        if name in dataset.variables:
            attributes = dataset[name].__dict__
            with contextlib.suppress(CRSError, KeyError):
                return CRS.from_cf(attributes)
    degrees = str(getattr(dataset[x], "units", "")).startswith("degree")
    return CRS.from_epsg(4326) if degrees or x.lower() in {"lon", "longitude"} else None


def _interval(dataset: Any, time: str) -> tuple[datetime, datetime] | None:
    if time not in dataset.variables or not hasattr(dataset[time], "units") or not dataset.dimensions[time].size:
        return None
    values = np.ma.compressed(dataset[time][:])
    calendar = getattr(dataset[time], "calendar", "standard")
    try:
        return _utc(values.min(), dataset[time].units, calendar), _utc(values.max(), dataset[time].units, calendar)
    except ValueError:  # a model calendar or a unit that has no place in real time
        return None


def _utc(value: Any, units: str, calendar: str) -> datetime:
    date: Any = netCDF4.num2date(
        value, units, calendar, only_use_cftime_datetimes=False, only_use_python_datetimes=True
    )
    return datetime.fromisoformat(date.isoformat()).replace(tzinfo=UTC)
