"""How a land cover looks through the year: green cover and reflectance of each band."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sandbox.landscape import (
    FALLOW,
    FOREST,
    GRASS,
    LATE_CROP,
    SUMMER_CROP,
    TOWN,
    WATER,
    WINTER_CROP,
    Landscape,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Reflectance of bare soil, closed canopy, roofs and roads, open water, in each band (typical L2A values).
SPECTRA: dict[str, tuple[float, float, float, float]] = {
    "B02": (0.070, 0.025, 0.120, 0.040),
    "B03": (0.095, 0.050, 0.130, 0.045),
    "B04": (0.125, 0.030, 0.140, 0.030),
    "B05": (0.150, 0.085, 0.150, 0.025),
    "B08": (0.210, 0.430, 0.190, 0.015),
    "B11": (0.290, 0.200, 0.210, 0.008),
    "B12": (0.240, 0.100, 0.200, 0.005),
}
#: Land cover -> least green, most green, day of greening, day of browning (northern hemisphere), days of spread.
_SEASONS: dict[int, tuple[float, float, float, float, float]] = {
    FOREST: (0.45, 0.92, 115.0, 295.0, 12.0),
    GRASS: (0.40, 0.85, 95.0, 290.0, 18.0),
    WINTER_CROP: (0.15, 0.95, 85.0, 185.0, 9.0),
    SUMMER_CROP: (0.03, 0.95, 165.0, 265.0, 8.0),
    LATE_CROP: (0.03, 0.90, 150.0, 290.0, 9.0),
    FALLOW: (0.08, 0.30, 110.0, 240.0, 20.0),
}
_SOUTHERN = 32700
_HALF_YEAR = 182
_YEAR = 365
#: Days by which neighbouring fields of one crop are apart.
_SOWING_SPREAD = 24.0


def green_cover(land: Landscape, day_of_year: int, epsg: int) -> NDArray[np.float32]:
    """Share of each field that is green on a day, shape (fields,): a double logistic, half a year later in the south."""
    day = (day_of_year + _HALF_YEAR) % _YEAR if epsg > _SOUTHERN else day_of_year
    green = np.zeros(land.cover.size, np.float32)
    shift = (land.character - np.float32(0.5)) * np.float32(_SOWING_SPREAD)
    for cover, (least, most, up, down, spread) in _SEASONS.items():
        at = land.cover == cover
        rise = 1 / (1 + np.exp(-(day - up - shift[at]) / spread))
        fall = 1 / (1 + np.exp((day - down - shift[at]) / spread))
        green[at] = least + (most - least) * rise * fall
    green[land.cover == TOWN] = 0.12
    return green


def reflectance(land: Landscape, green: NDArray[np.float32], band: str) -> NDArray[np.float32]:
    """Surface reflectance of each field in a band, 0-1, shape (fields,)."""
    soil, canopy, built, water = SPECTRA[band]
    bare = np.float32(soil) * (np.float32(0.75) + np.float32(0.5) * land.character)
    bare = np.where(land.cover == TOWN, np.float32(built), bare)
    mixed = bare + (np.float32(canopy) - bare) * green
    return np.where(land.cover == WATER, np.float32(water), mixed).astype(np.float32)
