"""load_collection: from a request to a cube of pixels."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import odc.geo.xr  # noqa: F401 - gives xarray the accessor `.odc`
import xarray as xr

from sandbox.bands import BANDS, COLLECTION
from sandbox.conditions import meets
from sandbox.errors import OpenEOError

if TYPE_CHECKING:
    from sandbox.bands import Scene, SceneCollection
    from sandbox.grid import Window

#: A cube of more values than this (of 4 bytes) ends the job as an executor out of memory would.
MAX_VALUES = 200_000_000
_YEAR_ONLY = 4


def load_collection(collection: SceneCollection, arguments: dict[str, Any]) -> xr.DataArray:
    """The cube of a load_collection node.

    Args:
        collection: where scenes come from.
        arguments: the node's arguments as sent.

    Returns:
        Shape (t, bands, y, x), float32, nodata as NaN; `t` is the day of acquisition; CRS in `spatial_ref`.

    Raises:
        OpenEOError: for unknown collections or bands, for extents that cannot be read, hold no data or too much of it.
    """
    if arguments.get("id") != COLLECTION:
        raise OpenEOError("CollectionNotFound", f"Collection {arguments.get('id')!r} does not exist.")
    extent = arguments.get("spatial_extent")
    if not isinstance(extent, dict):
        raise OpenEOError("ProcessParameterMissing", "load_collection needs a spatial_extent here.")
    bands = _bands(arguments.get("bands"))
    start, end = parse_interval(arguments.get("temporal_extent"))
    window = collection.window(extent)
    scenes = [
        s for s in collection.scenes(window, start, end) if meets(s.properties, arguments.get("properties") or {})
    ]
    days = [list(group) for _, group in itertools.groupby(scenes, key=lambda scene: scene.taken.date())]
    if not days:
        raise OpenEOError("NoDataAvailable", "There is no data available for the given extents.")
    _check_size(len(days) * len(bands) * window.width * window.height)
    return _cube(collection, days, window, bands)


def _bands(names: list[str] | None) -> list[str]:
    by_common = {common: name for name, (common, _) in BANDS.items() if common}
    bands = [by_common.get(name, name) for name in names or BANDS]
    unknown = [name for name in bands if name not in BANDS]
    if unknown:
        raise OpenEOError("ProcessParameterInvalid", f"Invalid band name(s) {unknown}. Valid names: {list(BANDS)}")
    return bands


def _check_size(values: int) -> None:
    if values > MAX_VALUES:
        raise OpenEOError(
            "OOM", f"Your job failed because the executors used too much memory ({values} values to load)."
        )


def _cube(collection: SceneCollection, days: list[list[Scene]], window: Window, bands: list[str]) -> xr.DataArray:
    pixels = np.empty((len(days), len(bands), window.height, window.width), np.float32)
    for layer, scenes in zip(pixels, days, strict=True):
        layer[:] = collection.read(scenes, window, bands)
    outside = window.outside()
    if outside is not None:
        pixels[:, :, outside] = np.nan
    times = np.array([scenes[0].taken.date() for scenes in days], "datetime64[ns]")
    cube = xr.DataArray(
        pixels,
        dims=("t", "bands", "y", "x"),
        coords={
            "t": times,
            "bands": bands,
            "common_name": ("bands", [BANDS[band][0] or band for band in bands]),
            "y": window.y,
            "x": window.x,
        },
    )
    located: xr.DataArray = cube.odc.assign_crs(f"EPSG:{window.grid.epsg}")
    return located


def parse_interval(interval: list[Any] | None) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Start and end (exclusive, UTC) of a temporal extent; null ends stay open.

    Raises:
        OpenEOError: when it cannot be read, or ends before it starts.
    """
    if interval is None:
        return None, None
    try:
        start, end = (None if value is None else _instant(value) for value in interval)
    except (TypeError, ValueError) as error:
        raise OpenEOError("ProcessParameterInvalid", f"The temporal extent {interval!r} is not understood.") from error
    if start and end and end <= start:
        raise OpenEOError("ProcessParameterInvalid", f"The temporal extent {interval!r} is empty.")
    return start, end


def _instant(value: str) -> dt.datetime:
    instant = (
        dt.datetime(int(value), 1, 1, tzinfo=dt.UTC) if len(value) == _YEAR_ONLY else dt.datetime.fromisoformat(value)
    )
    return instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)
