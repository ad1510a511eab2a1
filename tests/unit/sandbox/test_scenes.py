"""Generated scenes: plausible, and the same from every window."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest

from sandbox.errors import OpenEOError
from sandbox.load import load_collection, parse_interval
from sandbox.scenes import GeneratedScenes


def extent(west: float, south: float, width: float, height: float, epsg: int = 32631) -> dict[str, Any]:
    return {"west": west, "south": south, "east": west + width, "north": south + height, "crs": epsg}


def load(**arguments: Any) -> Any:
    defaults = {
        "id": "SENTINEL2_L2A",
        "spatial_extent": extent(595_000, 5_660_000, 2000, 2000),
        "bands": ["B04", "B08"],
    }
    return load_collection(
        GeneratedScenes(), {**defaults, "temporal_extent": ["2024-05-01", "2024-06-01"], **arguments}
    )


def test_shape_values_and_labels() -> None:
    cube = load()
    assert cube.dims == ("t", "bands", "y", "x")
    assert cube.shape[1:] == (2, 200, 200)
    assert cube.shape[0] in {6, 7}
    assert cube["common_name"].values.tolist() == ["red", "nir"]
    assert np.isfinite(cube.values).all()
    assert (cube.values == np.rint(cube.values)).all()
    assert 0 < cube.values.min() < cube.values.max() < 10_000
    assert set(np.diff(cube["t"].values).astype("timedelta64[D]").astype(int)) == {5}


@pytest.mark.parametrize("epsg", [32631, 32719, 32660])
def test_two_windows_of_one_place_agree(epsg: int) -> None:
    # Across the corner of a 100 km square, where two scenes and four cells of the weather meet.
    one = load(spatial_extent=extent(598_000, 5_699_000, 3000, 2000, epsg), bands=["B02", "B11", "SCL"])
    other = load(spatial_extent=extent(599_500, 5_699_700, 2500, 1000, epsg), bands=["SCL", "B11"])
    common = other.x.values[other.x.values < one.x.values.max() + 5]
    for band in ("SCL", "B11"):
        here = one.sel(bands=band, x=common, y=other.y).values
        np.testing.assert_array_equal(here, other.sel(bands=band, x=common).values)


def test_crops_grow_and_are_cut_and_the_south_is_half_a_year_late() -> None:
    def ndvi(start: str, end: str, epsg: int) -> float:
        cube = load(
            temporal_extent=[start, end],
            spatial_extent=extent(595_000, 5_660_000, 2000, 2000, epsg),
            bands=["B04", "B08", "SCL"],
        )
        red, nir, scl = (cube.sel(bands=band) for band in ("B04", "B08", "SCL"))
        return float(((nir - red) / (nir + red)).where(scl.isin([4, 5])).mean())

    assert ndvi("2024-06-01", "2024-07-15", 32631) > ndvi("2024-01-01", "2024-02-15", 32631) + 0.2
    assert ndvi("2024-06-01", "2024-07-15", 32731) < ndvi("2024-01-01", "2024-02-15", 32731)


def test_clouds_show_in_bands_in_scl_and_in_the_property() -> None:
    scenes = GeneratedScenes()
    start, end = parse_interval(["2023-01-01", "2024-01-01"])
    covers = [
        scene.properties["eo:cloud_cover"]()
        for scene in scenes.scenes(scenes.window(extent(595_000, 5_660_000, 100, 100)), start, end)
    ]
    assert len(covers) == 73
    assert min(covers) < 15
    assert max(covers) > 60
    cube = load(temporal_extent=["2023-01-01", "2024-01-01"], bands=["B02", "SCL"])
    blue, scl = cube.sel(bands="B02"), cube.sel(bands="SCL")
    assert float(blue.where(scl == 9).mean()) > 3 * float(blue.where(scl.isin([4, 5])).mean())
    assert set(np.unique(scl)) <= {3, 4, 5, 6, 8, 9, 10}


def test_cloudy_scenes_can_be_left_out() -> None:
    def condition(limit: float) -> dict[str, Any]:
        arguments = {"x": {"from_parameter": "value"}, "y": limit}
        return {
            "eo:cloud_cover": {"process_graph": {"lte1": {"process_id": "lte", "arguments": arguments, "result": True}}}
        }

    whole = load(temporal_extent=["2024-01-01", "2024-12-31"], bands=["SCL"])
    clear = load(temporal_extent=["2024-01-01", "2024-12-31"], bands=["SCL"], properties=condition(30))
    assert 0 < clear.sizes["t"] < whole.sizes["t"]
    assert float(clear.isin([8, 9, 10]).mean()) < float(whole.isin([8, 9, 10]).mean())
    with pytest.raises(OpenEOError, match="no data available"):
        load(properties=condition(-1))


@pytest.mark.parametrize(
    ("interval", "days"),
    [
        (["2024-05-02", "2024-05-07"], 1),
        (["2024-05-02T00:00:00Z", "2024-05-07T00:00:00Z"], 1),
        (["2024-05-02T12:00:00Z", "2024-05-07T09:00:00+00:00"], 0),
        (["2024-05-02", "2024-05-08"], 2),
    ],
)
def test_the_end_of_time_is_excluded(interval: list[str], days: int) -> None:
    scenes = GeneratedScenes()
    window = scenes.window(extent(595_000, 5_660_000, 100, 100))
    taken = [scene.taken for scene in scenes.scenes(window, *parse_interval(interval))]
    assert len(taken) == days
    assert all(time.hour == 10 and time.tzinfo == dt.UTC for time in taken)


def test_open_ends() -> None:
    scenes = GeneratedScenes()
    window = scenes.window(extent(595_000, 5_660_000, 100, 100))
    until = list(scenes.scenes(window, *parse_interval([None, "2015-08-01"])))
    assert until[0].taken.date() >= dt.date(2015, 7, 4)
    since = list(scenes.scenes(window, *parse_interval(["2024-01-01", None])))
    assert since[-1].taken < dt.datetime.now(dt.UTC)


@pytest.mark.parametrize("interval", [["2024-02-01", "2024-01-01"], ["x", "y"], ["2024-01-01"]])
def test_what_is_no_interval_is_refused(interval: list[str]) -> None:
    with pytest.raises(OpenEOError):
        parse_interval(interval)
