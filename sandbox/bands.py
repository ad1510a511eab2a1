"""The bands and the scenes of the collection SENTINEL2_L2A, whatever they are read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from sandbox.grid import Window

COLLECTION = "SENTINEL2_L2A"
SCL = "SCL"
#: Band -> common name and centre wavelength in micrometres (ESA's Sentinel-2 documentation); SCL has neither.
BANDS: dict[str, tuple[str | None, float | None]] = {
    "B02": ("blue", 0.4966),
    "B03": ("green", 0.5600),
    "B04": ("red", 0.6645),
    "B05": ("rededge", 0.7039),
    "B08": ("nir", 0.8351),
    "B11": ("swir16", 1.6137),
    "B12": ("swir22", 2.2024),
    SCL: (None, None),
}


@dataclass(frozen=True)
class Scene:
    """One scene: a rectangle of one acquisition."""

    name: str
    taken: dt.datetime
    """Time of acquisition, UTC."""
    properties: dict[str, Callable[[], Any]]
    """What load_collection's `properties` may ask for; computed only when asked."""
    source: Any
    """Where the pixels come from; the collection's own business."""


class SceneCollection(Protocol):
    """What load_collection needs of a source of scenes."""

    def window(self, extent: dict[str, Any]) -> Window:
        """The pixels an extent covers."""

    def scenes(self, window: Window, start: dt.datetime | None, end: dt.datetime | None) -> Iterator[Scene]:
        """Scenes that touch the window, oldest first."""

    def read(self, scenes: list[Scene], window: Window, bands: list[str]) -> NDArray[np.float32]:
        """Pixels of scenes of one date, shape (bands, height, width), NaN for nodata."""
