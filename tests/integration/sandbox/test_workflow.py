"""What users do with a back-end, with the openEO client as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
import openeo
import pandas as pd
import pystac
import pytest
import rasterio
from openeo.extra.job_management import CsvJobDatabase, MultiBackendJobManager

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.spawn import Sandbox


def start_job(row: pd.Series, connection: openeo.Connection, **_kwargs: Any) -> openeo.BatchJob:
    """As a user of MultiBackendJobManager writes it."""
    cube = connection.load_collection(
        "SENTINEL2_L2A",
        temporal_extent=[row["start_date"], row["end_date"]],
        spatial_extent=row["spatial_extent"],
        bands=["B04", "B08"],
    )
    ndvi_cube = cube.ndvi().mean_time()
    return ndvi_cube.create_job(
        title="test excercise ndvi",
        out_format="NetCDF",
        job_options={"executor-memory": "2G", "executor-memoryOverhead": "2G", "python-memory": "500m"},
    )


def row_of(extent: dict[str, Any], end: str = "2024-08-01") -> pd.Series:
    return pd.Series({"spatial_extent": extent, "start_date": "2024-05-01", "end_date": end})


def test_a_tile_of_ndvi_from_job_to_file(connection: openeo.Connection, tile: dict[str, Any], tmp_path: Path) -> None:
    job = start_job(row_of(tile), connection=connection)
    assert job.status() == "created"
    job.start_and_wait(print=lambda _: None, max_poll_interval=0.1)
    paths = job.get_results().download_files(tmp_path)
    assert [path.name for path in paths] == ["openEO.nc", "job-results.json"]
    with netCDF4.Dataset(paths[0]) as file:
        assert file["var"].shape == (500, 500)
        assert file["var"].grid_mapping == "crs"
        assert file["crs"].grid_mapping_name == "transverse_mercator"
        assert (file["x"][0], file["x"][-1]) == (595_005.0, 599_995.0)
        assert (file["y"][0], file["y"][-1]) == (5_664_995.0, 5_660_005.0)
        ndvi = file["var"][:].filled(np.nan)
    assert np.isfinite(ndvi).all()
    assert -0.5 < np.quantile(ndvi, 0.05) < np.quantile(ndvi, 0.95) < 0.95
    described = job.describe()
    assert described["costs"] > 0
    assert described["usage"]["cpu"]["unit"] == "cpu-seconds"
    assert described["job_options"]["python-memory"] == "500m"
    assert [entry["message"] for entry in job.logs()][-1] == "The job has finished."


def test_results_are_a_stac_collection_with_items(
    connection: openeo.Connection, small_tile: dict[str, Any], tmp_path: Path
) -> None:
    cube = connection.load_collection("SENTINEL2_L2A", small_tile, ["2024-05-01", "2024-05-20"], ["B04", "SCL"])
    job = cube.create_job(out_format="GTiff")
    job.start_and_wait(print=lambda _: None, max_poll_interval=0.1)
    metadata = job.get_results().get_metadata()
    assert metadata["stac_version"] == "1.0.0"
    names = list(metadata["assets"])
    assert len(names) in {3, 4}
    assert all(name.startswith("openEO_2024-05-") and name.endswith("Z.tif") for name in names)
    assert [link["title"] for link in metadata["links"] if link["rel"] == "item"] == names
    assert metadata["providers"][0]["processing:expression"]["format"] == "openeo"
    paths = job.get_results().download_as_collection(tmp_path, on_download_failure="raise")
    assert len([path for path in paths if path.suffix == ".tif"]) == len(names)
    with rasterio.open(tmp_path / names[0] / names[0]) as file:
        assert file.descriptions == ("B04", "SCL")
        assert (file.shape, file.crs.to_epsg()) == ((50, 50), 32631)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    asset = metadata["assets"][names[0]]
    assert asset["file:size"] == (tmp_path / names[0] / names[0]).stat().st_size
    assert asset["proj:shape"] == [50, 50]


def test_signed_items_can_be_read_without_credentials(
    sandbox: Sandbox, connection: openeo.Connection, small_tile: dict[str, Any], tmp_path: Path
) -> None:
    sandbox.behave(signed_urls=True)
    job = start_job(row_of(small_tile, "2024-06-01"), connection=connection)
    job.start_and_wait(print=lambda _: None, max_poll_interval=0.1)
    collection = pystac.Collection.from_dict(job.get_results().get_metadata())
    items = [pystac.read_file(item.get_self_href()) for item in collection.get_items(recursive=True)]
    assert [item.id for item in items] == ["openEO.nc"]
    assert next(iter(items[0].assets.values())).title == "openEO.nc"
    assert items[0].properties["start_datetime"] == "2024-05-01T00:00:00Z"


def test_the_job_manager_users_come_from(
    connection: openeo.Connection, small_tile: dict[str, Any], tmp_path: Path
) -> None:
    rows = pd.DataFrame(
        [row_of(small_tile, "2024-05-15"), row_of(small_tile, "2024-05-20"), row_of(small_tile, "2024-05-25")]
    )
    table = rows.assign(spatial_extent=[str(extent) for extent in rows["spatial_extent"]])

    def start(row: pd.Series, connection: openeo.Connection, **kwargs: Any) -> openeo.BatchJob:
        return start_job(row_of(small_tile, row["end_date"]), connection=connection, **kwargs)

    manager = MultiBackendJobManager(poll_sleep=0.1, root_dir=tmp_path)
    manager.add_backend("sandbox", connection=connection, parallel_jobs=2)
    database = CsvJobDatabase(tmp_path / "jobs.csv").initialize_from_df(table)
    manager.run_jobs(start_job=start, job_db=database)
    done = database.read()
    assert done["status"].tolist() == ["finished"] * 3
    assert done["costs"].gt(0).all()
    assert len(list(tmp_path.glob("job_*/openEO.nc"))) == 3


def test_a_small_graph_runs_synchronously(
    connection: openeo.Connection, small_tile: dict[str, Any], tmp_path: Path
) -> None:
    cube = connection.load_collection("SENTINEL2_L2A", small_tile, ["2024-05-01", "2024-07-01"], ["B04", "B08"])
    series = cube.ndvi().aggregate_spatial(small_tile, "mean").execute()
    assert len(series) in {12, 13}
    assert all(-1 < values[0] < 1 for values in series.values())


@pytest.mark.parametrize("log_in", ["client_credentials", "refresh_token", "device_code"])
def test_openid_connect(sandbox: Sandbox, log_in: str, tmp_path: Path) -> None:
    connection = openeo.connect(sandbox.url)
    if log_in == "client_credentials":
        connection.authenticate_oidc_client_credentials(client_id="robot", client_secret="key", provider_id="sandbox")
        assert connection.describe_account()["user_id"] == "robot"
    else:
        connection.authenticate_oidc_device(store_refresh_token=False)
        if log_in == "refresh_token":
            token = sandbox_refresh_token(sandbox)
            connection.authenticate_oidc_refresh_token(client_id="sandbox-default-client", refresh_token=token)
        assert connection.describe_account()["user_id"] == "demo"
    assert connection.list_jobs(limit=1) is not None


def sandbox_refresh_token(sandbox: Sandbox) -> str:
    import requests  # noqa: PLC0415

    url = sandbox.url.replace("/openeo/1.2", "/oidc/token")
    form = {"grant_type": "password", "username": "demo", "password": "demo", "client_id": "sandbox-default-client"}
    token: str = requests.post(url, data=form, timeout=10).json()["refresh_token"]
    return token
