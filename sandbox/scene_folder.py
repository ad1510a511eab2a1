"""A folder of real GeoTIFF scenes as the collection.

A scene is a GeoTIFF with one band per Sentinel-2 band: the band's description (or its tag DESCRIPTION) is its name. The
time of acquisition comes from a sidecar `<name>.json` (`properties.datetime` of a STAC item, or `datetime`), else from
the tag `datetime` or TIFFTAG_DATETIME, else from the first date in the file's name.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from sandbox.bands import SCL, Scene
from sandbox.errors import OpenEOError
from sandbox.grid import RESOLUTION, WGS84, Grid, geometry_of, reproject, window_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from sandbox.grid import Window

_DATE = re.compile(r"(20\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])")
#: SCL classes that count as cloud: medium and high probability, cirrus.
_CLOUD_CLASSES = (8, 9, 10)


@dataclass(frozen=True)
class SceneFile:
    """One GeoTIFF of the folder."""

    path: Path
    taken: dt.datetime
    bands: tuple[str, ...]
    grid: Grid
    bounds: tuple[float, float, float, float]
    """West, south, east, north in degrees."""
    sidecar: dict[str, Any]

    def cloud_cover(self) -> float:
        """eo:cloud_cover, percent: the sidecar's, else the share of cloud classes in SCL, else 0."""
        stated = self.sidecar.get("properties", self.sidecar).get("eo:cloud_cover")
        if stated is not None:
            return float(stated)
        if SCL not in self.bands:
            return 0.0
        with rasterio.open(self.path) as source:
            classes = source.read(self.bands.index(SCL) + 1)
        seen = int(np.count_nonzero(classes))
        return round(100.0 * float(np.isin(classes, _CLOUD_CLASSES).sum()) / seen, 2) if seen else 100.0


class FolderScenes:
    """The collection of the scenes in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def files(self) -> list[SceneFile]:
        """The folder's scenes, oldest first."""
        paths = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in {".tif", ".tiff"})
        return sorted((_read_header(path) for path in paths), key=lambda scene: scene.taken)

    def window(self, extent: dict[str, Any]) -> Window:
        """The pixels an extent covers, on the grid of the first scene it touches.

        Raises:
            OpenEOError: NoDataAvailable when it touches none.
        """
        geometry, epsg, _ = geometry_of(extent)
        place = reproject(geometry, epsg, WGS84)
        for scene in self.files:
            if shapely.box(*scene.bounds).intersects(place):
                return window_of(extent, scene.grid)
        raise OpenEOError("NoDataAvailable", "There is no data available for the given extents.")

    def scenes(self, window: Window, start: dt.datetime | None, end: dt.datetime | None) -> Iterator[Scene]:
        """The scenes that touch a window between two times, oldest first."""
        west, south, east, north = transform_bounds(f"EPSG:{window.grid.epsg}", "EPSG:4326", *window.bounds)
        for scene in self.files:
            left, bottom, right, top = scene.bounds
            in_time = (start is None or scene.taken >= start) and (end is None or scene.taken < end)
            if in_time and left < east and right > west and bottom < north and top > south:
                yield Scene(scene.path.stem, scene.taken, {"eo:cloud_cover": scene.cloud_cover}, scene)

    def read(self, scenes: list[Scene], window: Window, bands: list[str]) -> NDArray[np.float32]:
        """Pixels of scenes of one date, shape (bands, height, width): the first scene with data wins, nodata is NaN."""
        pixels = np.full((len(bands), window.height, window.width), np.nan, np.float32)
        for scene in scenes:
            for layer, band in zip(pixels, bands, strict=True):
                gaps = np.isnan(layer)
                if gaps.any():
                    layer[gaps] = _read_band(scene.source, window, band)[gaps]
        return pixels


def _read_header(path: Path) -> SceneFile:
    sidecar_path = path.with_suffix(".json")
    sidecar = json.loads(sidecar_path.read_text()) if sidecar_path.exists() else {}
    with rasterio.open(path) as source:
        names = tuple(
            source.descriptions[i] or source.tags(i + 1).get("DESCRIPTION", f"band_{i + 1}")
            for i in range(source.count)
        )
        taken = _acquired(path, source.tags(), sidecar)
        epsg = source.crs.to_epsg()
        grid = Grid(epsg, source.transform.c % RESOLUTION, source.transform.f % RESOLUTION)
        return SceneFile(path, taken, names, grid, transform_bounds(source.crs, "EPSG:4326", *source.bounds), sidecar)


def _acquired(path: Path, tags: dict[str, str], sidecar: dict[str, Any]) -> dt.datetime:
    stated = sidecar.get("properties", sidecar).get("datetime") or tags.get("datetime")
    if stated:
        taken = dt.datetime.fromisoformat(stated)
        return taken if taken.tzinfo else taken.replace(tzinfo=dt.UTC)
    if "TIFFTAG_DATETIME" in tags:
        return dt.datetime.strptime(tags["TIFFTAG_DATETIME"], "%Y:%m:%d %H:%M:%S").replace(tzinfo=dt.UTC)
    found = _DATE.search(path.name)
    if found is None:
        raise OpenEOError("Internal", f"The scene {path.name} has no date: name it with one, or add a sidecar.")
    year, month, day = (int(part) for part in found.groups())
    return dt.datetime(year, month, day, tzinfo=dt.UTC)


def _read_band(scene: SceneFile, window: Window, band: str) -> NDArray[np.float32]:
    """One band on the window's grid: nearest neighbour, so pixels on the same grid stay as they are."""
    if band not in scene.bands:
        return np.full((window.height, window.width), np.nan, np.float32)
    transform = rasterio.Affine(RESOLUTION, 0, window.bounds[0], 0, -RESOLUTION, window.bounds[3])
    with (
        rasterio.open(scene.path) as source,
        WarpedVRT(
            source,
            crs=f"EPSG:{window.grid.epsg}",
            transform=transform,
            width=window.width,
            height=window.height,
            resampling=Resampling.nearest,
            nodata=source.nodata if source.nodata is not None else 0,
        ) as vrt,
    ):
        pixels: NDArray[np.float32] = (
            vrt.read(scene.bands.index(band) + 1, masked=True).astype(np.float32).filled(np.nan)
        )
    return pixels
