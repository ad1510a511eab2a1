"""One back-end for the tests of a module."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openeo
import pytest
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
