"""Real GeoTIFF scenes of a folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio

from sandbox.errors import OpenEOError
from sandbox.load import load_collection
from sandbox.scene_folder import FolderScenes

if TYPE_CHECKING:
    from pathlib import Path

EXTENT = {"west": 600_000, "south": 5_000_000, "east": 600_200, "north": 5_000_100, "crs": 32632}


def write_scene(path: Path, values: dict[str, Any], left: float = 600_000, **tags: str) -> None:
    profile = {
        "driver": "GTiff",
        "width": 30,
        "height": 20,
        "count": len(values),
        "dtype": "uint16",
        "nodata": 0,
        "crs": "EPSG:32632",
    }
    with rasterio.open(path, "w", transform=rasterio.Affine(10, 0, left, 0, -10, 5_000_150), **profile) as target:
        for number, (band, pixels) in enumerate(values.items(), start=1):
            target.write(np.broadcast_to(pixels, (20, 30)).astype(np.uint16), number)
            target.set_band_description(number, band)
        target.update_tags(**tags)


def load(folder: Path, **arguments: Any) -> Any:
    defaults = {
        "id": "SENTINEL2_L2A",
        "spatial_extent": EXTENT,
        "temporal_extent": ["2022-01-01", "2023-01-01"],
        "bands": ["B04"],
    }
    return load_collection(FolderScenes(folder), {**defaults, **arguments})


def test_pixels_dates_and_nodata(tmp_path: Path) -> None:
    ramp = np.arange(600).reshape(20, 30)
    write_scene(tmp_path / "S2_20220612.tif", {"B04": ramp, "B08": 5})
    write_scene(tmp_path / "later.tif", {"B04": ramp + 1}, TIFFTAG_DATETIME="2022:07:01 10:20:30")
    write_scene(tmp_path / "latest.tif", {"B04": ramp + 2})
    (tmp_path / "latest.json").write_text(json.dumps({"properties": {"datetime": "2022-08-01T10:00:00Z"}}))
    write_scene(tmp_path / "elsewhere_2022-09-01.tif", {"B04": 1}, left=700_000)
    cube = load(tmp_path)
    assert [str(time)[:10] for time in cube["t"].values] == ["2022-06-12", "2022-07-01", "2022-08-01"]
    np.testing.assert_array_equal(cube.values[1, 0], (ramp + 1)[5:15, :20])
    np.testing.assert_array_equal(cube.values[0, 0], ramp[5:15, :20].astype(float))
    corner = load(tmp_path, spatial_extent={**EXTENT, "north": 5_000_150, "west": 599_900})
    assert np.isnan(corner.values[0, 0, 0, 10])
    assert np.isnan(corner.values[:, :, :, :10]).all()


def test_scenes_of_one_day_fill_each_other(tmp_path: Path) -> None:
    write_scene(tmp_path / "a_20220612.tif", {"B04": 1}, left=599_800)
    write_scene(tmp_path / "b_20220612.tif", {"B04": 2}, left=600_050)
    cube = load(tmp_path)
    assert cube.sizes["t"] == 1
    assert cube.values[0, 0, 0].tolist() == [1.0] * 10 + [2.0] * 10


def test_cloud_cover_from_scl_or_sidecar(tmp_path: Path) -> None:
    classes = np.full((20, 30), 4)
    classes[:5] = 9
    write_scene(tmp_path / "a_20220612.tif", {"B04": 1, "SCL": classes})
    write_scene(tmp_path / "b_20220613.tif", {"B04": 1})
    (tmp_path / "b_20220613.json").write_text(json.dumps({"properties": {"eo:cloud_cover": 80}}))
    assert [scene.cloud_cover() for scene in FolderScenes(tmp_path).files] == [25.0, 80.0]


def test_no_data(tmp_path: Path) -> None:
    write_scene(tmp_path / "a_20220612.tif", {"B04": 1})
    for changes in (
        {"spatial_extent": {**EXTENT, "west": 800_000, "east": 800_100}},
        {"temporal_extent": ["2022-06-13", None]},
    ):
        with pytest.raises(OpenEOError) as caught:
            load(tmp_path, **changes)
        assert caught.value.code == "NoDataAvailable"


def test_a_scene_without_a_date_is_named(tmp_path: Path) -> None:
    write_scene(tmp_path / "undated.tif", {"B04": 1})
    with pytest.raises(OpenEOError, match=r"undated\.tif"):
        load(tmp_path)
