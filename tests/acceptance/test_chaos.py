"""Everything goes wrong at once, on two back-ends, and nothing is lost, doubled or left behind.

`make chaos` runs the long form: CHAOS_TILES tiles (300) instead of a few.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import threading
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import openeo
import pytest

from campaign.store import TileStore
from campaign.tile import TileStatus
from producer.embedded_redis import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TILES = int(os.environ.get("CHAOS_TILES", "30"))
SEED = int(os.environ.get("CHAOS_SEED", "7"))
MARKER = re.compile(r"\[fleet:chaos/([^/]+)/(\d+) (\w+)\]$")
ATTEMPTS = 4
RATE = 20

CAMPAIGN = """
import geopandas as gpd
import shapely
from campaign import Backend, Campaign

boxes = [shapely.box(4 + n / 100, 51, 4.01 + n / 100, 51.01) for n in range({tiles})]
table = gpd.GeoDataFrame(
    {{"tile_id": [f"t{{n}}" for n in range({tiles})], "start_date": "2024-05-01", "end_date": "2024-06-01"}},
    geometry=boxes,
    crs="EPSG:4326",
)
campaign = Campaign(
    name="chaos",
    table=table,
    backends=[
        Backend(name=name, url=url, auth="client_credentials", parallel_jobs=4, queued_jobs=1, prepared_jobs=2,
                poll_interval=0.5, requests_per_second={rate})
        for name, url in {urls}.items()
    ],
    max_attempts={attempts},
)


def start_job(row, connection, **kwargs):
    west, south, east, north = row.geometry.bounds
    return connection.load_collection(
        "SENTINEL2_L2A",
        spatial_extent=dict(west=west, south=south, east=east, north=north),
        temporal_extent=[row.start_date, row.end_date],
    ).create_job(title=f"chaos {{row.tile_id}}")
"""

FAULTS = {
    "fast": 1,
    "seed": SEED,
    "job_seconds": 0.5,
    "server_errors": 0.03,
    "server_error_status": 0,
    "lost_answers": 0.02,
    "failing_jobs": 0.05,
    "failure": "Internal",
    "short_downloads": 0.01,
    "broken_downloads": 0.01,
    "rate_limit": RATE,
    "token_seconds": 20,
    "checksums": 1,
}


@pytest.fixture(autouse=True)
def _credentials(fleet: Any) -> None:
    for name in ("ONE", "TWO"):
        fleet.environment |= {f"FLEET_{name}_CLIENT_ID": "robot", f"FLEET_{name}_CLIENT_SECRET": "key"}


@pytest.fixture
def sandboxes(start_sandbox: Any) -> Iterator[dict[str, Any]]:
    """Two back-ends in trouble."""
    with ExitStack() as stack:
        found = {}
        for number, name in enumerate(("one", "two")):
            faults = [f"{key}={value}" for key, value in (FAULTS | {"seed": SEED + number}).items()]
            words = [word for fault in faults for word in ("--behaviour", fault)]
            found[name] = stack.enter_context(start_sandbox(*words, "--foreign-jobs", "50", name=name))
        yield found


@pytest.fixture
def write(tmp_path: Path, sandboxes: dict[str, Any]) -> Path:
    path = tmp_path / "chaos.py"
    urls = {name: sandbox.url for name, sandbox in sandboxes.items()}
    path.write_text(CAMPAIGN.format(tiles=TILES, urls=urls, attempts=ATTEMPTS, rate=RATE), "utf-8")
    return path


@contextmanager
def killing(fleet: Any, every: float) -> Iterator[list[int]]:
    """Kill a worker, another one each time, every so many seconds while the block runs."""
    draw, done, killed = random.Random(SEED), threading.Event(), []

    def kill() -> None:
        while not done.wait(every):
            if workers := fleet.workers():
                killed.append(draw.choice(sorted(workers)))
                fleet.kill(killed[-1:])

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


@contextmanager
def looking(fleet: Any) -> Iterator[TileStore]:
    """The store of a fleet whose `run` has ended."""
    server = EmbeddedRedis(fleet.state_dir)
    try:
        yield TileStore.connect(server.url, "fleet")
    finally:
        server.stop()


def all_jobs(sandboxes: dict[str, Any]) -> list[dict[str, Any]]:
    """Every job that carries a marker, on all back-ends, once these are in good order again."""
    found = []
    for name, sandbox in sandboxes.items():
        sandbox.reset(fast=True)
        connection = openeo.connect(sandbox.url).authenticate_oidc_client_credentials("robot", "key")
        found += [dict(job) | {"backend": name} for job in connection.list_jobs(limit=10_000)]
    return [job | {"marker": match.groups()} for job in found if (match := MARKER.search(job.get("title") or ""))]


def nothing_lost_nothing_twice(fleet: Any, sandboxes: dict[str, Any]) -> Counter[str]:
    """Check each tile against the jobs on the back-ends; how many tiles are in each status."""
    by_tile: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for job in all_jobs(sandboxes):
        by_tile[job["marker"][0]].append(job)
    with looking(fleet) as store:
        tiles = {tile.id: tile for tile in store.tiles("chaos")}
        known = {
            tile_id: {entry["job_id"] for entry in store.history("chaos", tile_id)} | {tile.job_id}
            for tile_id, tile in tiles.items()
        }
    assert len(tiles) == TILES
    assert set(by_tile) <= set(tiles)
    for tile_id, jobs in by_tile.items():
        attempts = Counter(job["marker"][1] for job in jobs)
        assert set(attempts.values()) == {1}, f"{tile_id} has two jobs in one attempt: {jobs}"
        strangers = [job for job in jobs if job["id"] not in known[tile_id]]
        assert not strangers, f"{tile_id} does not know {strangers}"
    for tile in tiles.values():
        ends = [job["status"] for job in by_tile[tile.id]]
        if tile.status is TileStatus.FAILED:
            assert ends == ["error"] * ATTEMPTS, f"{tile} failed, and its jobs are {ends}"
        else:
            assert tile.status is TileStatus.PUBLISHED, tile
            assert ends.count("finished") == 1, f"{tile.id}: {ends}"
    return Counter(tile.status for tile in tiles.values())


def report(name: str, sandboxes: dict[str, Any], **more: Any) -> None:
    """Say what was met: it goes into the log of the run."""
    for backend, sandbox in sandboxes.items():
        stats = sandbox.stats()
        print(name, backend, stats["requests_total"], "requests,", stats["faults"], stats["statuses"])  # noqa: T201
    print(name, more)  # noqa: T201


@pytest.mark.timeout(1200)
def test_everything_goes_wrong_at_once(fleet: Any, sandboxes: dict[str, Any], write: Path) -> None:
    start = time.monotonic()
    with killing(fleet, every=5.0) as killed:
        done = fleet("run", str(write), "--no-flower", timeout=1000)
    report("chaos", sandboxes, killed=len(killed), seconds=round(time.monotonic() - start))
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for sandbox in sandboxes.values():
        stats = sandbox.stats()
        assert stats["faults"].get("rate_limit", 0) < 0.01 * stats["requests_total"]
        assert stats["faults"]["server_errors"] > 0
    assert killed
    found = nothing_lost_nothing_twice(fleet, sandboxes)
    assert found[TileStatus.FAILED] == (done.returncode and found[TileStatus.FAILED])


@pytest.mark.timeout(1200)
def test_redis_is_killed_and_comes_back(fleet: Any, sandboxes: dict[str, Any], write: Path, wait_until: Any) -> None:
    process = fleet.start("run", str(write), "--no-flower")
    for share in (0.2, 0.6):
        wait_until(lambda share=share: fleet.counts("chaos").get("published", 0) >= share * TILES, 600)
        os.kill(fleet.redis_pid(), signal.SIGKILL)
    output, _ = process.communicate(timeout=600)
    assert process.returncode in {0, 1}, output
    assert "Traceback" not in output
    nothing_lost_nothing_twice(fleet, sandboxes)


@pytest.mark.timeout(1200)
def test_redis_is_wiped_and_the_campaign_recovered(
    fleet: Any, sandboxes: dict[str, Any], write: Path, wait_until: Any
) -> None:
    process = fleet.start("run", str(write), "--no-flower")
    wait_until(lambda: fleet.counts("chaos").get("published", 0) >= 0.4 * TILES, 600)
    fleet.kill([process.pid, *fleet.workers(), fleet.redis_pid()])
    process.communicate()
    wait_until(lambda: not fleet.pids())
    shutil.rmtree(fleet.state_dir)

    refused = fleet("run", str(write), "--no-flower")
    assert refused.returncode == 2, refused.stdout
    assert "openeo-fleet recover" in refused.stderr
    for _ in range(5):  # a back-end in trouble may well answer the next time
        recovered = fleet("recover", str(write), timeout=300)
        if recovered.returncode == 0:
            break
    assert recovered.returncode == 0, recovered.stderr
    done = fleet("run", str(write), "--no-flower", timeout=600)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    nothing_lost_nothing_twice(fleet, sandboxes)
