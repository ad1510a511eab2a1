"""Process graphs are executed: numbers against plain numpy."""

from __future__ import annotations

import csv
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from sandbox.errors import OpenEOError

with warnings.catch_warnings():
    # What the packages below warn about when they are imported is not ours to mend.
    warnings.simplefilter("ignore")
    from sandbox.execute import Engine
    from sandbox.load import load_collection
    from sandbox.scenes import GeneratedScenes

if TYPE_CHECKING:
    from pathlib import Path

EXTENT = {"west": 595_000, "south": 5_660_000, "east": 595_600, "north": 5_660_400, "crs": 32631}
SQUARE = {
    "type": "Polygon",
    "crs": {"type": "name", "properties": {"name": "EPSG:32631"}},
    "coordinates": [
        [[595_100, 5_660_100], [595_300, 5_660_100], [595_300, 5_660_300], [595_100, 5_660_300], [595_100, 5_660_100]]
    ],
}
LOAD = {
    "id": "SENTINEL2_L2A",
    "spatial_extent": EXTENT,
    "temporal_extent": ["2024-05-01", "2024-07-01"],
    "bands": ["B04", "B08"],
}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(None)


@pytest.fixture(scope="module")
def loaded() -> Any:
    return load_collection(GeneratedScenes(), LOAD)


def chain(*steps: tuple[str, dict[str, Any]], load: dict[str, Any] | None = None) -> dict[str, Any]:
    """A graph of one process after another, after load_collection."""
    graph: dict[str, Any] = {"n0": {"process_id": "load_collection", "arguments": load or LOAD}}
    for number, (process, arguments) in enumerate(steps, start=1):
        graph[f"n{number}"] = {
            "process_id": process,
            "arguments": {"data": {"from_node": f"n{number - 1}"}, **arguments},
        }
    graph[f"n{len(steps)}"]["result"] = True
    return graph


def reducer(process: str) -> dict[str, Any]:
    return {
        "process_graph": {
            "r": {"process_id": process, "arguments": {"data": {"from_parameter": "data"}}, "result": True}
        }
    }


def run(engine: Engine, folder: Path, *steps: tuple[str, dict[str, Any]]) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine.run(chain(*steps, ("save_result", {"format": "netCDF"})), folder)
    return xr.load_dataset(folder / "openEO.nc")


def test_mean_ndvi(engine: Engine, loaded: Any, tmp_path: Path) -> None:
    result = run(engine, tmp_path, ("ndvi", {}), ("reduce_dimension", {"dimension": "t", "reducer": reducer("mean")}))
    red, nir = loaded.values[:, 0].astype(float), loaded.values[:, 1].astype(float)
    np.testing.assert_allclose(result["var"].values, ((nir - red) / (nir + red)).mean(axis=0), atol=1e-6)
    assert result["var"].attrs["grid_mapping"] == "crs"


def test_a_band_can_be_added(engine: Engine, tmp_path: Path) -> None:
    result = run(engine, tmp_path, ("ndvi", {"target_band": "NDVI"}))
    assert {"B04", "B08", "NDVI"} <= set(result.data_vars)
    expected = (result["B08"] - result["B04"]) / (result["B08"] + result["B04"])
    np.testing.assert_allclose(result["NDVI"].values, expected.values, atol=1e-6)
    assert np.issubdtype(result["t"].dtype, np.datetime64)


def test_polygons(engine: Engine, loaded: Any, tmp_path: Path) -> None:
    inside = loaded.sel(x=slice(595_100, 595_300), y=slice(5_660_300, 5_660_100))
    masked = run(engine, tmp_path / "a", ("mask_polygon", {"mask": SQUARE}))
    assert int(masked["B04"].notnull().sum()) == inside.sel(bands="B04").size
    cropped = run(engine, tmp_path / "b", ("filter_spatial", {"geometries": SQUARE}))
    np.testing.assert_array_equal(cropped["B08"].values, inside.sel(bands="B08").values)
    aggregate = ("aggregate_spatial", {"geometries": SQUARE, "reducer": reducer("mean")})
    engine.run(chain(aggregate, ("save_result", {"format": "CSV"})), tmp_path / "c")
    with (tmp_path / "c" / "timeseries.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = inside.mean(("x", "y"), dtype=float).sel(bands="B04").values
    np.testing.assert_allclose([float(row["B04"]) for row in rows], expected, rtol=1e-5)


def test_cubes_merge(engine: Engine, loaded: Any, tmp_path: Path) -> None:
    graph = {
        "a": {"process_id": "load_collection", "arguments": {**LOAD, "bands": ["B04"]}},
        "b": {"process_id": "load_collection", "arguments": {**LOAD, "bands": ["B08"]}},
        "m": {"process_id": "merge_cubes", "arguments": {"cube1": {"from_node": "a"}, "cube2": {"from_node": "b"}}},
        "n": {"process_id": "ndvi", "arguments": {"data": {"from_node": "m"}}},
        "s": {
            "process_id": "save_result",
            "arguments": {"data": {"from_node": "n"}, "format": "GTiff"},
            "result": True,
        },
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = engine.run(graph, tmp_path)
    assert outcome.values == loaded.size
    assert [file.name for file in outcome.files] == [f"openEO_{str(time)[:10]}Z.tif" for time in loaded["t"].values]
    assert outcome.files[0].shape == [40, 60]
    assert outcome.files[0].bounds == [595_000, 5_660_000, 595_600, 5_660_400]


def test_a_udf_runs(engine: Engine, loaded: Any, tmp_path: Path) -> None:
    code = (
        "from openeo.udf import XarrayDataCube\n"
        "def apply_datacube(cube: XarrayDataCube, context: dict) -> XarrayDataCube:\n"
        "    return XarrayDataCube(cube.get_array() * 2)\n"
    )
    arguments = {"data": {"from_parameter": "x"}, "udf": code, "runtime": "Python"}
    process = {"process_graph": {"u": {"process_id": "run_udf", "arguments": arguments, "result": True}}}
    result = run(engine, tmp_path, ("apply", {"process": process}))
    np.testing.assert_array_equal(result["B08"].values, loaded.sel(bands="B08").values * 2)


def test_what_cannot_be_executed_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(OpenEOError, match="sen2like"):
        engine.run(chain(("sen2like", {})), tmp_path)
    with pytest.raises(OpenEOError, match="Zarr"):
        engine.run(chain(("save_result", {"format": "Zarr"})), tmp_path)
    assert {"mask", "resample_spatial", "aggregate_temporal_period"} <= set(engine.processes)
