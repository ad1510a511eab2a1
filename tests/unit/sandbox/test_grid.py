"""Extents become windows of pixels."""

from __future__ import annotations

import json
from typing import Any

import antimeridian
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from sandbox.errors import OpenEOError
from sandbox.grid import Grid, native_grid, parse_epsg, utm_epsg, window_of


def as_geojson(west: float, south: float, size: float, epsg: int, decimals: int | None = None) -> dict[str, Any]:
    to_degrees = Transformer.from_crs(epsg, 4326, always_xy=True)
    square = shapely.transform(
        shapely.box(west, south, west + size, south + size), to_degrees.transform, interleaved=False
    )
    if decimals is not None:
        square = shapely.transform(square, lambda xy: np.round(xy, decimals))
    geojson: dict[str, Any] = json.loads(shapely.to_geojson(square))
    return geojson


@settings(max_examples=60, deadline=None)
@given(
    lon=st.floats(-179.9, 179.9),
    lat=st.floats(-78, -0.1) | st.floats(0.1, 82),
    decimals=st.sampled_from([None, 7]),
)
def test_a_tile_of_a_utm_grid_is_met_exactly(lon: float, lat: float, decimals: int | None) -> None:
    epsg = utm_epsg(lon, lat)
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    left, bottom = x // 5000 * 5000, y // 5000 * 5000
    extent = as_geojson(left, bottom, 5000.0, epsg, decimals)
    window = window_of(extent, native_grid(extent))
    assert window.grid.epsg == epsg
    assert window.bounds == (left, bottom, left + 5000, bottom + 5000)
    assert window.outside() is None


def test_a_tile_over_the_antimeridian_split_or_not() -> None:
    x, y = Transformer.from_crs(4326, 32660, always_xy=True).transform(180.0, 60.0)
    left, bottom = x // 5000 * 5000, y // 5000 * 5000
    whole = as_geojson(left, bottom, 5000.0, 32660)
    split = antimeridian.fix_shape(whole)
    assert split["type"] == "MultiPolygon"
    for extent in (whole, dict(split)):
        window = window_of(extent, native_grid(extent))
        assert (window.grid.epsg, window.bounds) == (32660, (left, bottom, left + 5000, bottom + 5000))
        assert window.outside() is None


def test_a_polygon_masks_what_lies_outside_of_it() -> None:
    triangle = {
        "type": "Polygon",
        "coordinates": [[[500000, 5600000], [500100, 5600000], [500000, 5600100], [500000, 5600000]]],
    }
    window = window_of({**triangle, "crs": 32631}, Grid(32631))
    outside = window.outside()
    assert (window.width, window.height) == (10, 10)
    assert outside is not None
    assert not outside[-1, 0]
    assert outside[0, -1]
    assert outside.sum() in range(45, 56)


@pytest.mark.parametrize("crs", [32631, "32631", "EPSG:32631", "epsg:32631"])
def test_a_box_in_utm_is_taken_as_it_is(crs: Any) -> None:
    extent = {"west": 595_000, "south": 5_660_000, "east": 600_000, "north": 5_665_000, "crs": crs}
    window = window_of(extent, native_grid(extent))
    assert window.bounds == (595_000, 5_660_000, 600_000, 5_665_000)
    assert window.outside() is None


def test_a_box_in_degrees_is_covered() -> None:
    extent = {"west": 4.4, "south": 51.1, "east": 4.41, "north": 51.11}
    window = window_of(extent, native_grid(extent))
    to_utm = Transformer.from_crs(4326, 32631, always_xy=True)
    west, south, east, north = window.bounds
    for lon in (4.4, 4.405, 4.41):
        for lat in (51.1, 51.11):
            x, y = to_utm.transform(lon, lat)
            assert west <= x <= east
            assert south <= y <= north


def test_features_and_collections_of_them_are_one_geometry() -> None:
    square = as_geojson(595_000, 5_660_000, 1000, 32631)
    beside = as_geojson(597_000, 5_660_000, 1000, 32631)
    feature = {"type": "Feature", "properties": {}, "geometry": square}
    both = {"type": "FeatureCollection", "features": [feature, {**feature, "geometry": beside}]}
    assert window_of(feature, Grid(32631)).width == 100
    window = window_of(both, native_grid(both))
    assert (window.width, window.height) == (300, 100)
    outside = window.outside()
    assert outside is not None
    assert outside.sum() == 100 * 100


def test_zones() -> None:
    assert utm_epsg(4.4, 51.2) == 32631
    assert utm_epsg(-70.0, -33.0) == 32719
    assert utm_epsg(180.0, 10.0) == 32601
    assert native_grid({"west": 179.9, "south": 10, "east": -179.9, "north": 10.1}).epsg in {32660, 32601}


@pytest.mark.parametrize("extent", [{}, {"type": "Polygon"}, {"west": "x", "south": 0, "east": 1, "north": 1}])
def test_what_is_no_extent_is_refused(extent: dict[str, Any]) -> None:
    with pytest.raises(OpenEOError) as caught:
        native_grid(extent)
    assert caught.value.code == "ProcessParameterInvalid"


def test_an_unknown_crs_is_refused() -> None:
    with pytest.raises(OpenEOError):
        parse_epsg("EPSG:1")
