"""A STAC item for a final result file: everything that can be computed is computed from the file itself."""

from __future__ import annotations

import hashlib
import math
import mimetypes
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import antimeridian
from shapely.geometry import shape

from campaign.errors import InvalidInput
from workers.failures import UnreadableResult
from workers.footprint import footprint, pixel_size
from workers.netcdf import NETCDF_SUFFIXES, read_netcdf
from workers.raster import GEOTIFF_SUFFIXES, Band, Raster, read_geotiff
from workers.stac import (
    FILE,
    GRID,
    PROCESSING,
    PROJECTION,
    RASTER,
    STAC_VERSION,
    is_item_id,
    item_id,
    jsonable,
    rfc3339,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from pyproj import CRS

__all__ = ["JobInfo", "UnreadableResult", "build_item", "item_id", "jsonable"]

MEDIA_TYPES = {
    ".csv": "text/csv",
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".zip": "application/zip",
}


@dataclass(frozen=True, slots=True)
class JobInfo:
    """The job that made a file."""

    backend_url: str
    job_id: str
    title: str = ""
    process_graph: dict[str, Any] | None = None
    costs: float | None = None
    """In the currency of the back-end (credits)."""
    usage: dict[str, Any] = field(default_factory=dict)
    """The usage metrics of the back-end, as it gives them."""


def build_item(  # noqa: PLR0913 - each is a fact of its own, all by keyword
    file: Path,
    *,
    item_id: str,
    collection: str,
    asset_key: str,
    href: str,
    interval: tuple[datetime, datetime] | None,
    job: JobInfo,
    properties: Mapping[str, Any],
    geometry: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The STAC 1.1.0 item of `file`; the same arguments always give the same item.

    Args:
        file: a GeoTIFF, a NetCDF file or anything else, in its final state.
        item_id: see `workers.stac.item_id`.
        collection: id of the collection.
        asset_key: key of the one asset.
        href: where the file can be fetched by those who read the item.
        interval: first and last time of the data, used where the file does not say; naive times are UTC.
        job: what made it.
        properties: more item properties, such as `grid:code`; those computed here win.
        geometry: GeoJSON in EPSG:4326, used where the file does not say where it lies.

    Raises:
        UnreadableResult: the file is empty or damaged.
        InvalidInput: the id is not safe, or neither the file nor the arguments say where or when.
    """
    if not is_item_id(item_id):
        raise InvalidInput(f"{item_id!r} is not an item id: make one with item_id()")
    raster = _read(file)
    place = _place(file, raster, geometry)
    computed = _times(file, raster, interval) | _job_properties(job)
    if raster:
        computed["proj:code"] = _code(raster.crs)
    item_properties = jsonable(properties) | computed
    asset = _asset(file, raster, href)
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": _extensions(raster, item_properties),
        "id": item_id,
        "geometry": place,
        "bbox": [round(float(value), 7) for value in _bbox(place)],
        "properties": item_properties,
        "links": [
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
            _via(job),
        ],
        "assets": {asset_key: asset},
        "collection": collection,
    }


def _read(file: Path) -> Raster | None:
    try:
        empty = file.stat().st_size == 0
    except OSError as e:
        raise UnreadableResult(f"{file}: {e.strerror}") from e
    if empty:
        raise UnreadableResult(f"{file}: empty")
    suffix = file.suffix.lower()
    if suffix in GEOTIFF_SUFFIXES:
        return read_geotiff(file)
    return read_netcdf(file) if suffix in NETCDF_SUFFIXES else None


def _place(file: Path, raster: Raster | None, fallback: Mapping[str, Any] | None) -> dict[str, Any]:
    own = footprint(raster.crs, raster.bounds) if raster and raster.crs and raster.bounds else None
    if own is None and fallback is None:
        raise InvalidInput(f"{file}: neither the file nor the tile says where it lies: give a geometry")
    return own or jsonable(dict(fallback or {}))


def _bbox(geometry: Mapping[str, Any]) -> list[float]:
    """West, south, east, north; west > east across the antimeridian, as RFC 7946 has it."""
    if geometry["type"] in {"Polygon", "MultiPolygon"}:
        return antimeridian.bbox(dict(geometry))
    return list(shape(dict(geometry)).bounds)


def _times(file: Path, raster: Raster | None, interval: tuple[datetime, datetime] | None) -> dict[str, Any]:
    """`datetime` is the start: a real time, so that APIs can sort by it."""
    times = (raster.interval if raster else None) or interval
    if times is None:
        raise InvalidInput(f"{file}: neither the file nor the campaign says when: give a temporal extent")
    first, last = map(rfc3339, times)
    return {"datetime": first, "start_datetime": first, "end_datetime": last}


def _job_properties(job: JobInfo) -> dict[str, Any]:
    provider: dict[str, Any] = {
        "name": urlsplit(job.backend_url).hostname or job.backend_url,
        "roles": ["processor"],
        "url": job.backend_url,
    }
    if job.process_graph is not None:
        provider["processing:expression"] = {"format": "openeo", "expression": jsonable(job.process_graph)}
    found: dict[str, Any] = {"providers": [provider], "processing:software": {"openeo-fleet": _own_version()}}
    if job.costs is not None and math.isfinite(job.costs):
        found["openeo:costs"] = job.costs
    if job.usage:
        found["openeo:usage"] = jsonable(job.usage)
    return found


@lru_cache(maxsize=1)
def _own_version() -> str:
    try:
        return version("openeo-fleet")
    except PackageNotFoundError:
        return "unknown"


def _via(job: JobInfo) -> dict[str, Any]:
    link = {"rel": "via", "href": f"{job.backend_url.rstrip('/')}/jobs/{job.job_id}", "type": "application/json"}
    return link | ({"title": job.title} if job.title else {})


def _asset(file: Path, raster: Raster | None, href: str) -> dict[str, Any]:
    suffix = file.suffix.lower()
    guess = MEDIA_TYPES.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    asset: dict[str, Any] = {
        "href": href,
        "type": raster.media_type if raster else guess,
        "roles": ["data"],
        "file:size": file.stat().st_size,
        # A multihash: 0x12 is SHA2-256, 0x20 its length in bytes.
        "file:checksum": f"1220{digest}",
    }
    return asset | (_grid(raster) if raster else {})


def _grid(raster: Raster) -> dict[str, Any]:
    code = _code(raster.crs)
    found: dict[str, Any] = {"proj:code": code, "proj:shape": list(raster.shape)}
    if raster.crs and code is None:
        found["proj:wkt2"] = raster.crs.to_wkt("WKT2_2019")
    if raster.bounds:
        found["proj:bbox"] = list(raster.bounds)
    if raster.transform:
        found["proj:transform"] = list(raster.transform)
        if raster.crs and raster.bounds:
            found["gsd"] = pixel_size(raster.crs, raster.transform, raster.bounds)
    return found | {"bands": [_band(band) for band in raster.bands]}


def _band(band: Band) -> dict[str, Any]:
    found: dict[str, Any] = {"name": band.name, "data_type": band.data_type}
    if band.nodata is not None:
        found["nodata"] = band.nodata
    if band.unit:
        found["unit"] = band.unit
    if (band.scale, band.offset) != (1.0, 0.0):
        found |= {"raster:scale": band.scale, "raster:offset": band.offset}
    statistics = band.statistics.to_dict()
    return found | ({"statistics": statistics} if statistics else {})


@lru_cache(maxsize=64)
def _code(crs: CRS | None) -> str | None:
    authority = crs.to_authority() if crs else None
    return ":".join(authority) if authority else None


def _extensions(raster: Raster | None, properties: Mapping[str, Any]) -> list[str]:
    found = [FILE, PROCESSING]
    if "grid:code" in properties:
        found.append(GRID)
    if raster:
        found.append(PROJECTION)
        if any((band.scale, band.offset) != (1.0, 0.0) for band in raster.bands):
            found.append(RASTER)
    return sorted(found)
