"""A campaign over a real Sentinel-2 scene: each tile's NDVI is that of a direct computation from the file."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import rasterio.windows
import xarray as xr

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    path = os.environ.get("FLEET_TEST_SCENE")
    if not path:
        pytest.skip("FLEET_TEST_SCENE names no real Sentinel-2 scene")
    folder = tmp_path / "scenes"
    folder.mkdir()
    shutil.copy(path, folder / "S2_20220612.tif")
    return folder


def test_ndvi_of_every_tile_equals_a_direct_computation(
    fleet: Any, start_sandbox: Any, campaign_file: Any, scenes: Path
) -> None:
    fleet.environment |= {"FLEET_LOCAL_CLIENT_ID": "robot", "FLEET_LOCAL_CLIENT_SECRET": "key"}
    bounds = (675000, 5148000, 684000, 5155000)
    with start_sandbox("--scenes", str(scenes)) as sandbox:
        path = campaign_file(sandbox.url, bounds=bounds, crs="EPSG:32632", size=1000)
        path.write_text(path.read_text("utf-8").replace("2024-05-01", "2022-06-01").replace("2024-08-01", "2022-07-01"))
        done = fleet("run", str(path), "--no-flower")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "63 of 63 tiles published" in done.stdout
    with rasterio.open(scenes / "S2_20220612.tif") as scene:
        masked = [compare(fleet.workdir / "results" / "ndvi" / tile, scene, tile) for tile in tile_ids(bounds)]
    assert sum(masked) > 0, "the scene's nodata was never met"


def tile_ids(bounds: tuple[int, int, int, int]) -> list[str]:
    west, south, east, north = bounds
    return [f"32632_{x}_{y}" for x in range(west, east, 1000) for y in range(south, north, 1000)]


def compare(folder: Path, scene: Any, tile: str) -> int:
    """Compare one tile with the scene; returns how many pixels the scene has no data for."""
    _, west, south = (int(part) for part in tile.split("_"))
    with xr.open_dataset(folder / "openEO.nc") as dataset:
        name = next(name for name in dataset.data_vars if dataset[name].dims == ("y", "x"))
        found = dataset[name].sortby("y", ascending=False).sortby("x")
        x, y, ndvi = found.x.values, found.y.values, found.values
    assert west < x.min() < x.max() < west + 1000
    assert south < y.min() < y.max() < south + 1000
    assert len(x) == 100
    top = min(south + 1000, int(scene.bounds.top))
    inside = (y > south) & (y < top)
    window = rasterio.windows.from_bounds(west, south, west + 1000, top, scene.transform)
    red, nir = scene.read([1, 4], window=window).astype("float64")
    missing = (red == 0) | (nir == 0)
    with np.errstate(invalid="ignore"):
        expected = np.where(missing, np.nan, (nir - red) / (nir + red))
    assert inside.sum() == expected.shape[0]
    np.testing.assert_allclose(ndvi[inside], expected, atol=1e-6, rtol=0)
    assert np.isnan(ndvi[~inside]).all()
    return int(missing.sum())
