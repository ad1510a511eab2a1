"""The demo, as a newcomer starts it: files, catalog, map, and what Flower shows meanwhile."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
import shapely
import xarray as xr

from producer.demo import EXAMPLE
from producer.grids import utm_grid
from workers.schemas import validate_item

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = {"submit", "track", "postprocess", "publish"}


def flower_tasks(url: str) -> list[dict[str, Any]]:
    query = "draw=1&start=0&length=1000&search[value]=&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name"
    try:
        with urllib.request.urlopen(f"{url}/tasks/datatable?{query}", timeout=5) as answer:
            return list(json.load(answer)["data"])
    except OSError:
        return []


@pytest.fixture
def grid() -> Any:
    return utm_grid(bounds=(595000, 5660000, 615000, 5680000), crs="EPSG:32631", size=5000).set_index("tile_id")


def test_demo_turns_a_grid_into_rasters_and_a_catalog(fleet: Any, wait_until: Callable[..., Any], grid: Any) -> None:
    demo = fleet.start("demo")
    lines = [demo.stdout.readline() for _ in range(4)]
    flower = re.search(r"http://127\.0\.0\.1:\d+$", lines[3].strip())
    assert flower, lines
    seen: dict[str, str] = {}

    def all_steps_seen() -> bool:
        for task in flower_tasks(flower.group()):
            if task["name"] and "_" in str(task["args"]):
                seen[task["name"]] = task["args"]
        return set(seen) >= STEPS

    wait_until(all_steps_seen, 90)
    assert all(re.search(r"32631_\d{6}_\d{7}", seen[step]) for step in STEPS), seen
    output, _ = demo.communicate(timeout=90)
    assert demo.returncode == 0, output
    assert "16 of 16 tiles published" in output

    assert len(grid) == 16
    means = [plausible_ndvi(fleet.workdir / "results" / "antwerp-ndvi" / tile, cell) for tile, cell in grid.iterrows()]
    assert len(set(means)) == 16, "tiles are all alike"
    check_catalog(fleet.workdir / "results" / "catalog" / "catalog.json", grid)
    assert "plotly" in (fleet.workdir / "results" / "antwerp-ndvi" / "map.html").read_text("utf-8").lower()

    again = fleet("demo")
    assert again.returncode == 0
    assert "16 tiles, 0 new" in again.stdout


def test_the_example_is_the_seeds_start_job() -> None:
    text = EXAMPLE.read_text("utf-8")
    assert 'json.loads(row["spatial_extent"])' in text
    assert "cube.ndvi().mean_time()" in text
    assert 'job_options={"executor-memory": "2G"' in text


def plausible_ndvi(folder: Path, cell: Any) -> float:
    """The tile's raster lies on the tile's square, and holds what NDVI can be in summer."""
    files = list(folder.glob("*.nc"))
    assert [file.name for file in files] == ["openEO.nc"]
    with xr.open_dataset(files[0]) as dataset:
        names = [name for name in dataset.data_vars if dataset[name].dims == ("y", "x")]
        assert len(names) == 1
        assert dataset.x.values.tolist() == np.arange(cell.west + 5, cell.east, 10).tolist()
        assert sorted(dataset.y.values.tolist()) == np.arange(cell.south + 5, cell.north, 10).tolist()
        ndvi = dataset[names[0]].values
    assert np.isfinite(ndvi).mean() > 0.9
    assert np.nanmin(ndvi) >= -1
    assert np.nanmax(ndvi) <= 1
    assert 0.1 < np.nanmean(ndvi) < 0.9
    assert np.nanstd(ndvi) > 0.02
    return float(np.nanmean(ndvi))


def check_catalog(path: Path, grid: Any) -> None:
    """pystac can walk it, each item is valid, and its box is that of its tile."""
    root = pystac.Catalog.from_file(str(path))
    items = list(root.get_items(recursive=True))
    assert {item.properties["fleet:tile"] for item in items} == set(grid.index)
    assert len(items) == 16
    for item in items:
        validate_item(json.loads(Path(item.self_href).read_text("utf-8")))
        cell = grid.loc[item.properties["fleet:tile"]]
        assert item.bbox == pytest.approx(cell.geometry.bounds, abs=2e-6)
        assert shapely.geometry.shape(item.geometry).symmetric_difference(cell.geometry).area < 1e-6
        assert item.assets["data"].get_absolute_href().endswith(f"/{cell.name}/openEO.nc")
    collection = next(root.get_children())
    assert isinstance(collection, pystac.Collection)
    assert collection.extent.spatial.bboxes[0] == pytest.approx(grid.total_bounds, abs=2e-6)
