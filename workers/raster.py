"""What a raster file says of itself: its grid, bands and true statistics, read block by block; here for GeoTIFF."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.errors
import rasterio.windows
from pyproj import CRS
from pystac import MediaType

from workers.failures import UnreadableResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

BLOCK_VALUES = 2_000_000
"""Values held in memory at once while statistics are computed."""

CACHE_BYTES = 64_000_000
"""Of GDAL, whose own default is 5% of the machine: each block is read once."""

GEOTIFF_SUFFIXES = frozenset({".tif", ".tiff"})
COG_UNTILED_LIMIT = 512
"""Largest side, in pixels, of a cloud-optimized GeoTIFF without tiles and overviews."""


@dataclass(slots=True)
class Statistics:
    """Running statistics of one band; blocks are merged by Chan, Golub and LeVeque (1979), without cancellation."""

    total: int = 0
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean."""
    minimum: float = math.inf
    maximum: float = -math.inf

    def add(self, values: np.ma.MaskedArray[Any, Any]) -> None:
        """Take in a block of any shape; masked, NaN and infinite values count as not valid."""
        self.total += values.size
        valid = values.compressed()
        if valid.dtype.kind == "f":
            valid = valid[np.isfinite(valid)]
        if valid.size == 0 or valid.dtype.kind not in "iuf":
            return
        mean = float(valid.mean(dtype=np.float64))
        delta, count = mean - self.mean, self.count + valid.size
        self.squares += float(np.square(np.subtract(valid, mean, dtype=np.float64)).sum())
        self.squares += delta * delta * self.count * valid.size / count
        self.mean += delta * valid.size / count
        self.count = count
        self.minimum, self.maximum = min(self.minimum, valid.min().item()), max(self.maximum, valid.max().item())

    def to_dict(self) -> dict[str, float] | None:
        """STAC's Statistics Object, or None without a valid value: JSON has no NaN."""
        if not self.count:
            return None
        return {
            "minimum": self.minimum,
            "maximum": self.maximum,
            # Nine digits: what stays the same whatever order a machine sums in.
            "mean": float(f"{self.mean:.9g}"),
            "stddev": float(f"{math.sqrt(self.squares / self.count):.9g}"),
            "valid_percent": float(f"{100 * self.count / self.total:.9g}"),
        }


@dataclass(slots=True)
class Band:
    """One band; values, nodata and statistics are the stored ones, before scale and offset."""

    name: str
    data_type: str
    nodata: float | str | None = None
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0
    statistics: Statistics = field(default_factory=Statistics)


@dataclass(frozen=True, slots=True)
class Raster:
    """A raster file as it is on disk."""

    media_type: str
    crs: CRS | None
    shape: tuple[int, int]
    """Rows, columns."""
    transform: tuple[float, ...] | None
    """Six affine coefficients, pixel corner to CRS; None where the pixels are not evenly spaced."""
    bounds: tuple[float, float, float, float] | None
    """Outer edges in the CRS: xmin, ymin, xmax, ymax."""
    bands: list[Band]
    interval: tuple[datetime, datetime] | None
    """First and last time in the file."""


def read_geotiff(file: Path) -> Raster:
    """The raster in a GeoTIFF.

    Raises:
        UnreadableResult: it cannot be read to its end.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(file, driver="GTiff") as src:
                return _describe(src)
        except (rasterio.errors.RasterioError, OSError) as e:
            raise UnreadableResult(f"{file}: damaged or not a GeoTIFF: {e}") from e


def _describe(src: Any) -> Raster:
    bands = [
        Band(src.descriptions[i] or src.tags(i + 1).get("DESCRIPTION") or f"B{i + 1}", stac_data_type(src.dtypes[i]))
        for i in range(src.count)
    ]
    for i, band in enumerate(bands):
        band.nodata, band.unit = json_number(src.nodatavals[i]), src.units[i] or ""
        band.scale, band.offset = src.scales[i], src.offsets[i]
    depth = src.count if src.interleaving == rasterio.enums.Interleaving.pixel else 1
    for layers, rows, cols in blocks((src.count, *src.shape), (depth, *src.block_shapes[0])):
        indexes = list(range(layers.start + 1, layers.stop + 1))
        window = rasterio.windows.Window.from_slices(rows, cols)
        for i, values in zip(indexes, src.read(indexes, window=window, masked=True), strict=True):
            bands[i - 1].statistics.add(values)
    crs = CRS.from_wkt(src.crs.to_wkt()) if src.crs else None
    located = not src.transform.is_identity
    return Raster(
        media_type=MediaType.COG.value if is_cog(src) else MediaType.GEOTIFF.value,
        crs=crs,
        shape=src.shape,
        transform=tuple(src.transform)[:6] if located else None,
        bounds=sorted_bounds(src.bounds) if located else None,
        bands=bands,
        interval=None,
    )


def is_cog(src: Any) -> bool:
    """Whether an open GeoTIFF is laid out as OGC 21-026 asks: tiles, overviews, every directory before the data.

    The order is that of GDAL's `validate_cloud_optimized_geotiff`: directories from the full image to the smallest
    overview, then the data of the smallest overview first. Small images need neither tiles nor overviews.
    """
    if any(str(name).endswith((".ovr", ".msk")) for name in src.files):
        return False
    levels = [None, *range(len(src.overviews(1)))] if src.count else []
    large = max(src.shape) > COG_UNTILED_LIMIT
    if large and (src.block_shapes[0][1] == src.width or len(levels) == 1):
        return False
    directories = [_tiff_offset(src, "IFD_OFFSET", level) for level in levels]
    data = [_tiff_offset(src, "BLOCK_OFFSET_0_0", level) for level in levels]
    stored = [offset for offset in data if offset]
    return (
        directories == sorted(directories)
        and stored == sorted(stored, reverse=True)
        and (not stored or max(directories) < min(stored))
    )


def _tiff_offset(src: Any, name: str, level: int | None) -> int:
    value = src.get_tag_item(name, "TIFF", bidx=1, ovr=level)
    return int(value) if value else 0


def sorted_bounds(bounds: Sequence[float]) -> tuple[float, float, float, float]:
    """xmin, ymin, xmax, ymax of a raster that may be stored south up."""
    x0, y0, x1, y1 = map(float, bounds)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def blocks(shape: Sequence[int], chunk: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Slices that cover `shape` in whole chunks, several at once up to `BLOCK_VALUES`, a part of one beyond it."""
    step = [max(1, min(part, size)) for part, size in zip(chunk, shape, strict=True)]
    for axis in range(len(step)):
        excess = math.ceil(math.prod(step) / BLOCK_VALUES)
        step[axis] = max(1, step[axis] // excess)
    for axis in reversed(range(len(step))):
        step[axis] = min(shape[axis], step[axis] * max(1, BLOCK_VALUES // math.prod(step)))
    starts = (range(0, size, part) for size, part in zip(shape, step, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(i, min(i + part, size)) for i, part, size in zip(corner, step, shape, strict=True))


def stac_data_type(dtype: Any) -> str:
    """STAC's name of a data type."""
    name = str(dtype)
    return {"complex_int16": "cint16", "complex64": "cfloat32", "complex128": "cfloat64"}.get(name, name)


def json_number(value: float | None) -> float | str | None:
    """A nodata value as STAC writes it: NaN and the infinities as text."""
    if value is None:
        return None
    if math.isfinite(value):
        return int(value) if float(value).is_integer() else value
    return "nan" if math.isnan(value) else str(value)
