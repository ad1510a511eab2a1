"""The program: starting, stopping, being killed, going on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openeo
import pytest
import rasterio
import xarray as xr

from sandbox.spawn import running, start


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def cube(connection: openeo.Connection, extent: dict[str, Any], end: str = "2024-06-01") -> openeo.DataCube:
    loaded: openeo.DataCube = connection.load_collection("SENTINEL2_L2A", extent, ["2024-05-01", end], ["B04", "B08"])
    return loaded.ndvi().mean_time()


def test_it_answers_soon_stops_cleanly_and_leaves_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    sandbox = start(tmp_path, "--executors", "1")
    assert time.monotonic() - began < 3
    sandbox.wait_until_warm()
    executors = children(sandbox.process.pid)
    assert len(executors) == 1
    began = time.monotonic()
    assert sandbox.stop() == 0
    assert time.monotonic() - began < 3
    wait_until(lambda: all(gone(pid) for pid in executors), 2)
    assert f"openEO sandbox at {sandbox.url}\n" in (tmp_path / "server.log").read_text()


def test_killed_while_a_job_runs_it_runs_again(
    tmp_path: Path, small_tile: dict[str, Any], tile: dict[str, Any]
) -> None:
    sandbox = start(tmp_path, "--executors", "1")
    connection = openeo.connect(sandbox.url).authenticate_basic("demo", "demo")
    done = cube(connection, small_tile).create_job(title="done", out_format="NetCDF")
    done.start_and_wait(print=lambda _: None, max_poll_interval=0.1)
    sandbox.behave(job_seconds=60)
    job = cube(connection, small_tile).create_job(title="killed", out_format="NetCDF")
    job.start()
    wait_until(lambda: job.status() == "running")
    executors = children(sandbox.process.pid)
    os.kill(sandbox.process.pid, signal.SIGKILL)
    sandbox.process.wait()
    wait_until(lambda: all(gone(pid) for pid in executors), 5)
    port = sandbox.url.split(":")[2].split("/")[0]
    with running(tmp_path, "--executors", "1", "--port", port) as again:
        assert again.url == sandbox.url
        # The old token and both jobs are still good.
        wait_until(lambda: job.status() == "finished")
        assert [entry["title"] for entry in connection.list_jobs()] == ["killed", "done"]
        assert any("restarted" in entry["message"] for entry in job.logs())
        assert done.get_results().download_file(tmp_path / "done.nc").stat().st_size > 1000


def test_canceling_stops_the_executor(tmp_path: Path) -> None:
    with running(tmp_path, "--executors", "1", "--parallel", "1") as sandbox:
        sandbox.wait_until_warm()
        connection = openeo.connect(sandbox.url).authenticate_basic("demo", "demo")
        large = {"west": 4.0, "south": 51.0, "east": 4.2, "north": 51.1}
        job = cube(connection, large, "2024-08-01").create_job(out_format="NetCDF")
        executors = children(sandbox.process.pid)
        job.start()
        wait_until(lambda: job.status() == "running")
        time.sleep(0.3)
        job.stop()
        assert job.status() == "canceled"
        wait_until(lambda: all(gone(pid) for pid in executors), 5)
        wait_until(lambda: len(children(sandbox.process.pid)) == 1, 5)
        wait_until(lambda: sandbox.stats()["slots"]["busy"] == 0, 5)


def test_a_wrong_option_is_explained(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox", "--data", str(tmp_path), "--behaviour", "latncy=1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "Unknown behaviour latncy" in ended.stderr


@pytest.mark.parametrize("masked", [False, True])
def test_ndvi_of_a_real_scene_is_that_of_its_file(real_scene: Path, tmp_path: Path, masked: bool) -> None:  # noqa: FBT001
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / "S2_L2A_20220612.tif").symlink_to(real_scene)
    with rasterio.open(real_scene) as scene:
        bands = {scene.tags(number)["DESCRIPTION"]: scene.read(number).astype(float) for number in scene.indexes}
        left, top = scene.transform.c, scene.transform.f
        epsg = scene.crs.to_epsg()
    rows, cols = slice(100, 400), slice(200, 460)
    extent: dict[str, Any] = {
        "west": left + 2000, "east": left + 4600, "north": top - 1000, "south": top - 4000, "crs": f"EPSG:{epsg}",
    }  # fmt: skip
    with np.errstate(invalid="ignore"):
        expected = (bands["B08"] - bands["B04"]) / (bands["B08"] + bands["B04"])
    expected[(bands["B08"] == 0) | (bands["B04"] == 0)] = np.nan
    with running(tmp_path / "data", "--executors", "1", "--scenes", str(folder)) as sandbox:
        connection = openeo.connect(sandbox.url).authenticate_basic("demo", "demo")
        loaded = connection.load_collection(
            "SENTINEL2_L2A", extent, ["2022-06-12", "2022-06-13"], ["B04", "B08", "SCL"]
        )
        if masked:
            scl = loaded.band("SCL")
            loaded = loaded.mask((scl == 8) | (scl == 9))
            expected[np.isin(bands["SCL"], (8, 9))] = np.nan
        job = loaded.ndvi().max_time().create_job(out_format="NetCDF")
        job.start_and_wait(print=lambda _: None, max_poll_interval=0.1)
        job.get_results().download_file(tmp_path / "ndvi.nc")
    with xr.open_dataset(tmp_path / "ndvi.nc") as result:
        np.testing.assert_allclose(result["var"].values, expected[rows, cols], atol=1e-6, rtol=0)
        assert result["crs"].attrs["crs_wkt"].endswith(f'ID["EPSG",{epsg}]]')
