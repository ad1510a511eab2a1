"""save_result: from a cube to files, named and laid out as the Copernicus Data Space back-end does it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import rasterio
from rasterio.warp import transform_bounds

from sandbox.errors import OpenEOError
from sandbox.save_tables import save_csv, save_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import xarray as xr

#: Format -> its extension and media type; what /file_formats lists.
FORMATS: dict[str, tuple[str, str]] = {
    "NETCDF": ("nc", "application/x-netcdf"),
    "GTIFF": ("tif", "image/tiff; application=geotiff; profile=cloud-optimized"),
    "JSON": ("json", "application/json"),
    "CSV": ("csv", "text/csv"),
}
_SPATIAL = ("y", "x")


@dataclass
class SaveRequest:
    """What a save_result node hands back: the cube and how to write it."""

    cube: xr.DataArray
    format: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class SavedFile:
    """One file of a result and what its STAC metadata needs."""

    name: str
    media_type: str
    size: int
    checksum: str
    """SHA-256 as a multihash in hex ("1220...")."""
    bands: list[str]
    datetimes: list[str]
    """First and last time step, RFC 3339; empty without a time dimension."""
    epsg: int | None = None
    shape: list[int] | None = None
    """Rows, columns."""
    transform: list[float] | None = None
    bounds: list[float] | None = None
    """West, south, east, north in the CRS, m."""
    bbox: list[float] | None = None
    """West, south, east, north, degrees."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def save(request: SaveRequest, folder: Path) -> list[SavedFile]:
    """Write a cube into a folder.

    Raises:
        OpenEOError: for an unknown format, or a cube that cannot be written in it.
    """
    name = request.format.upper()
    if name == "COG":
        name = "GTIFF"
    if name not in FORMATS:
        raise OpenEOError("FormatUnsupported", f"Output format {request.format!r} is not supported.")
    cube = request.cube
    if name in {"NETCDF", "GTIFF"} and not set(_SPATIAL) <= set(cube.dims):
        raise OpenEOError(
            "FormatUnsupported", f"{request.format} needs the dimensions x and y, the cube has {cube.dims}."
        )
    writers: dict[str, Callable[[xr.DataArray, Path], list[tuple[Path, xr.DataArray]]]] = {
        "NETCDF": _save_netcdf,
        "GTIFF": _save_geotiffs,
        "JSON": save_json,
        "CSV": save_csv,
    }
    return [_describe(path, part, FORMATS[name][1]) for path, part in writers[name](cube, folder)]


def _save_netcdf(cube: xr.DataArray, folder: Path) -> list[tuple[Path, xr.DataArray]]:
    path = folder / "openEO.nc"
    crs = cube.odc.crs
    plain = cube.reset_coords(drop=True)
    plain.attrs = {}
    dataset = plain.to_dataset(dim="bands") if "bands" in plain.dims else plain.to_dataset(name="var")
    encoding: dict[str, dict[str, Any]] = {}
    for variable in dataset.data_vars:
        dataset[variable].attrs = {"long_name": str(variable), "units": "", "grid_mapping": "crs"}
        encoding[str(variable)] = {"zlib": True, "complevel": 1}
    if crs is not None:
        mapping = pyproj.CRS.from_epsg(crs.to_epsg()).to_cf()
        dataset["crs"] = ((), np.int32(crs.to_epsg()), {**mapping, "spatial_ref": mapping["crs_wkt"]})
    for axis in _SPATIAL:
        dataset[axis].attrs = {
            "standard_name": f"projection_{axis}_coordinate",
            "long_name": f"{axis} coordinate of projection",
            "units": "m",
        }
    if "t" in dataset.coords and np.issubdtype(dataset["t"].dtype, np.datetime64):
        dataset["t"].attrs = {"standard_name": "t", "long_name": "t", "axis": "T"}
        encoding["t"] = {"units": "days since 1990-01-01", "dtype": "int64"}
    dataset.attrs = {"Conventions": "CF-1.9", "institution": "openEO sandbox"}
    dataset.to_netcdf(path, engine="netcdf4", encoding=encoding)
    return [(path, cube)]


def _save_geotiffs(cube: xr.DataArray, folder: Path) -> list[tuple[Path, xr.DataArray]]:
    """One file a time step, or one file."""
    if "t" not in cube.dims:
        return [(_save_geotiff(cube, folder / "openEO.tif"), cube)]
    written = []
    for step in range(cube.sizes["t"]):
        part = cube.isel(t=slice(step, step + 1))
        label = str(part["t"].values[0])[:10]
        written.append((_save_geotiff(part.isel(t=0), folder / f"openEO_{label}Z.tif"), part))
    return written


def _save_geotiff(cube: xr.DataArray, path: Path) -> Path:
    layers = (
        cube.transpose("bands", *_SPATIAL) if "bands" in cube.dims else cube.transpose(*_SPATIAL).expand_dims("bands")
    )
    values = layers.values if layers.dtype.kind in "fiu" else layers.values.astype(np.uint8)
    profile = {
        "driver": "COG",
        "dtype": values.dtype.name,
        "count": values.shape[0],
        "height": values.shape[1],
        "width": values.shape[2],
        "crs": None if cube.odc.crs is None else f"EPSG:{cube.odc.crs.to_epsg()}",
        "transform": cube.odc.transform,
        "nodata": np.nan if values.dtype.kind == "f" else None,
        "compress": "deflate",
    }
    with rasterio.open(path, "w", **profile) as target:
        target.write(values)
        for number, band in enumerate(_band_names(cube), start=1):
            target.set_band_description(number, band)
    return path


def _band_names(cube: xr.DataArray) -> list[str]:
    return [str(band) for band in cube["bands"].values] if "bands" in cube.dims else ["var"]


def _describe(path: Path, cube: xr.DataArray, media_type: str) -> SavedFile:
    """The file as it is on disk, with what its cube knows of place and time."""
    content = path.read_bytes()
    times = cube["t"].values if "t" in cube.dims and cube.sizes["t"] else np.array([])
    stamps = [f"{str(time)[:19]}Z" for time in (times[0], times[-1])] if times.dtype.kind == "M" and times.size else []
    saved = SavedFile(
        path.name, media_type, len(content), f"1220{hashlib.sha256(content).hexdigest()}", _band_names(cube), stamps
    )
    if set(_SPATIAL) <= set(cube.dims) and cube.odc.crs is not None and min(cube.sizes[axis] for axis in _SPATIAL) > 1:
        box = cube.odc.geobox
        saved.epsg = box.crs.to_epsg()
        saved.shape = list(box.shape)
        saved.transform = list(box.transform)[:6]
        saved.bounds = list(box.boundingbox.bbox)
        saved.bbox = [round(edge, 7) for edge in transform_bounds(f"EPSG:{saved.epsg}", "EPSG:4326", *saved.bounds)]
    return saved
