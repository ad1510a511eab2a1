"""One back-end for the tests of a module."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openeo
import pytest
import requests
import shapely
from pyproj import Transformer

from sandbox.spawn import Sandbox, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    arguments = ("--executors", "1", "--user", "demo:demo", "--user", "other:secret", "--client", "robot:key")
    with running(tmp_path_factory.mktemp("sandbox"), *arguments) as started:
        yield started


@pytest.fixture(autouse=True)
def _friendly(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "sandbox" in request.fixturenames:
        request.getfixturevalue("sandbox").reset()


GRAPH = {
    "load1": {
        "process_id": "load_collection",
        "arguments": {
            "id": "SENTINEL2_L2A",
            "spatial_extent": {"west": 4.40, "south": 51.10, "east": 4.41, "north": 51.11},
            "temporal_extent": ["2024-05-01", "2024-05-20"],
            "bands": ["B04"],
        },
        "result": True,
    },
}


class Client:
    """A user of the back-end, as plain as can be: one request a call, nothing tried again."""

    def __init__(self, session: requests.Session, url: str) -> None:
        self.session, self.url = session, url

    def log_in(self) -> None:
        token = self.get("/credentials/basic", auth=("demo", "demo")).json()["access_token"]
        self.session.headers["Authorization"] = f"Bearer basic//{token}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(f"{self.url}{path}", timeout=10, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(f"{self.url}{path}", timeout=10, **options)

    def delete(self, path: str) -> requests.Response:
        return self.session.delete(f"{self.url}{path}", timeout=10)

    def create(self, title: str = "job", **fields: Any) -> str:
        body = {"title": title, "process": {"process_graph": GRAPH}, **fields}
        return self.post("/jobs", json=body).headers["OpenEO-Identifier"]

    def start(self, job: str) -> requests.Response:
        return self.post(f"/jobs/{job}/results")

    def run(self, title: str = "job", **fields: Any) -> str:
        job = self.create(title, **fields)
        assert self.start(job).status_code == 202
        return job

    def status(self, job: str) -> str:
        status: str = self.get(f"/jobs/{job}").json()["status"]
        return status

    def wait(self, job: str) -> str:
        for _ in range(400):
            status = self.status(job)
            if status in {"finished", "error", "canceled"}:
                return status
            time.sleep(0.05)
        raise AssertionError(status)

    def error_code(self, job: str) -> str:
        code: str = self.get(f"/jobs/{job}/logs?level=error").json()["logs"][0]["code"]
        return code

    def asset(self, job: str) -> dict[str, Any]:
        asset: dict[str, Any] = self.get(f"/jobs/{job}/results").json()["assets"]["openEO.nc"]
        return asset

    def titles(self, query: str = "limit=100") -> list[str]:
        return [job["title"] for job in self.get(f"/jobs?{query}").json()["jobs"]]


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    sandbox.clear_stats()
    with requests.Session() as session:
        client = Client(session, sandbox.url)
        client.log_in()
        yield client


@pytest.fixture(scope="module")
def connection(sandbox: Sandbox) -> openeo.Connection:
    return openeo.connect(sandbox.url).authenticate_basic("demo", "demo")


def utm_tile(west: float, south: float, size: float = 5000.0, epsg: int = 32631) -> dict[str, Any]:
    """A square of a UTM grid as GeoJSON in degrees, as users' grids come."""
    to_degrees = Transformer.from_crs(epsg, 4326, always_xy=True)
    square = shapely.transform(
        shapely.box(west, south, west + size, south + size), to_degrees.transform, interleaved=False
    )
    tile: dict[str, Any] = json.loads(shapely.to_geojson(square))
    return tile


@pytest.fixture(scope="session")
def tile() -> dict[str, Any]:
    return utm_tile(595_000, 5_660_000)


@pytest.fixture(scope="session")
def small_tile() -> dict[str, Any]:
    return utm_tile(595_000, 5_660_000, 500)


@pytest.fixture(scope="session")
def real_scene() -> Path:
    path = os.environ.get("FLEET_TEST_SCENE")
    if not path:
        pytest.skip("FLEET_TEST_SCENE names no real Sentinel-2 scene")
    return Path(path)
