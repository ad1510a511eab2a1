"""Generated Sentinel-2-like L2A scenes: deterministic in place and time, only made where and when asked for."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sandbox.bands import SCL, Scene
from sandbox.grid import native_grid, window_of
from sandbox.landscape import TOWN, WATER, Landscape, landscape
from sandbox.phenology import green_cover, reflectance
from sandbox.sky import WEATHER, acquisitions, clouds, date_seed, scene_cells, scene_cloud_cover

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import NDArray

    from sandbox.grid import Window

#: Reflectance of clouds in every band, and the share of light left in their shadows.
_CLOUD, _SHADE = np.float32(0.62), np.float32(0.42)
_SCALE = np.float32(10_000)
_GREEN = 0.35
_SCL_SHADOW, _SCL_VEGETATION, _SCL_BARE, _SCL_WATER, _SCL_CLOUD, _SCL_OPAQUE, _SCL_CIRRUS = 3, 4, 5, 6, 8, 9, 10


@functools.lru_cache(maxsize=4)
def _landscape(window: Window) -> Landscape:
    return landscape(window)


class GeneratedScenes:
    """The collection of generated scenes."""

    def window(self, extent: dict[str, Any]) -> Window:
        """The pixels an extent covers, in the UTM zone of the place."""
        return window_of(extent, native_grid(extent))

    def scenes(self, window: Window, start: dt.datetime | None, end: dt.datetime | None) -> Iterator[Scene]:
        """The scenes that touch a window, oldest first; one per date and 100 km square."""
        for taken in acquisitions(window.grid.epsg, start, end):
            seed = date_seed(taken.date(), window.grid.epsg)
            for cell in scene_cells(window):
                name = f"S2_L2A_{window.grid.epsg}_{cell[0]}_{cell[1]}_{taken:%Y%m%dT%H%M%S}"
                yield Scene(name, taken, {"eo:cloud_cover": functools.partial(scene_cloud_cover, cell, seed)}, cell)

    def read(self, scenes: list[Scene], window: Window, bands: list[str]) -> NDArray[np.float32]:
        """Pixels of the scenes of one date, shape (bands, height, width); NaN where no scene of the list lies."""
        land = _landscape(replace(window, mask=None))
        taken = scenes[0].taken
        green = green_cover(land, taken.timetuple().tm_yday, window.grid.epsg)
        thickness, shadow = clouds(window, date_seed(taken.date(), window.grid.epsg))
        pixels = np.empty((len(bands), window.height, window.width), np.float32)
        for layer, band in zip(pixels, bands, strict=True):
            if band == SCL:
                layer[:] = _classes(land, green)[land.field]
                _cloud_classes(layer, thickness, shadow)
            else:
                layer[:] = _counts(land, reflectance(land, green, band), thickness, shadow)
        _blank_missing(pixels, scenes, window)
        return pixels


def _counts(
    land: Landscape, field_reflectance: NDArray[np.float32], thickness: NDArray[np.float32], shadow: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Reflectance x 10000 in whole counts, as L2A products store it."""
    surface = field_reflectance[land.field] * land.texture
    if thickness.any():
        surface = np.where(shadow, surface * _SHADE, surface)
        surface += (_CLOUD * land.texture - surface) * thickness
    rounded: NDArray[np.float32] = np.rint(surface * _SCALE)
    return rounded


def _classes(land: Landscape, green: NDArray[np.float32]) -> NDArray[np.float32]:
    """SCL class of each field under a clear sky."""
    classes = np.where(green > _GREEN, _SCL_VEGETATION, _SCL_BARE).astype(np.float32)
    classes[land.cover == TOWN] = _SCL_BARE
    classes[land.cover == WATER] = _SCL_WATER
    return classes


def _cloud_classes(layer: NDArray[np.float32], thickness: NDArray[np.float32], shadow: NDArray[np.bool_]) -> None:
    layer[shadow] = _SCL_SHADOW
    for least, scl in ((0.05, _SCL_CIRRUS), (0.3, _SCL_CLOUD), (0.7, _SCL_OPAQUE)):
        layer[thickness > least] = scl


def _blank_missing(pixels: NDArray[np.float32], scenes: list[Scene], window: Window) -> None:
    """NaN in the 100 km squares whose scene was filtered away."""
    kept = {scene.source for scene in scenes}
    missing = [cell for cell in scene_cells(window) if cell not in kept]
    if not missing:
        return
    cols = (window.col + np.arange(window.width)) // WEATHER
    rows = (window.row - 1 - np.arange(window.height)) // WEATHER
    for cell in missing:
        pixels[:, (rows == cell[1])[:, None] & (cols == cell[0])[None, :]] = np.nan
