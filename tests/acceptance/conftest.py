"""Whole processes as a user starts them: the command, its workers, a sandbox; whatever is left is ended by its id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from campaign.errors import StoreUnavailable
from campaign.store import TileStore
from producer.embedded_redis import running_url, socket_path
from sandbox.spawn import Sandbox, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND = [sys.executable, "-P", "-m", "producer.cli"]


@dataclass
class Fleet:
    """`openeo-fleet` in a working directory of its own."""

    workdir: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(
        self, *arguments: str, timeout: float = 240, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [*COMMAND, *arguments, "--workdir", str(self.workdir)]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and go on."""
        command = [*COMMAND, *arguments, "--workdir", str(self.workdir)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, env=self.environment, text=True, start_new_session=True, **pipes)
        self.started.append(process)
        return process

    def status(self, campaign: str) -> dict[str, Any]:
        """What `status --json` says, with no statuses while there is nothing to ask."""
        answer = self("status", campaign, "--json")
        found: dict[str, Any] = json.loads(answer.stdout) if answer.returncode == 0 else {"by_status": {}}
        return found

    def counts(self, campaign: str) -> dict[str, int]:
        """How many tiles are in each status, read from the fleet's Redis while it runs: quicker than a command."""
        url = running_url(self.state_dir)
        if url is None:
            return {}
        try:
            store = TileStore.connect(url)
        except StoreUnavailable:
            return {}
        try:
            return {status.value: count for status, count in store.counts(campaign).items()}
        finally:
            store.redis.close()

    @property
    def state_dir(self) -> Path:
        return self.workdir.resolve() / ".openeo-fleet"

    def pids(self, *words: str) -> list[int]:
        """Processes of this fleet whose command line has all `words`."""
        mine = f"FLEET_WORKDIR={self.workdir.resolve()}\0".encode()
        return [pid for pid in _processes() if mine in _read(pid, "environ") and _says(pid, words)]

    def workers(self) -> list[int]:
        """The Celery workers and their pools."""
        return self.pids("\0-m\0workers\0worker\0")

    def redis_pid(self) -> int:
        """The embedded Redis."""
        with redis.Redis(unix_socket_path=str(socket_path(self.state_dir))) as client:
            return int(client.info("server")["process_id"])

    def kill(self, pids: list[int]) -> None:
        """SIGKILL each."""
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def _says(pid: int, words: tuple[str, ...]) -> bool:
    line = _read(pid, "cmdline").decode("utf-8", "replace")
    return bool(line) and all(word in line for word in words)


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for `condition` to come true; returns what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    pytest.fail(f"did not come true in {seconds} s: {condition}")


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "OPENEO_"))}
    environment["FLEET_LEASE"] = "4"
    fleet = Fleet(tmp_path / "work", environment)
    yield fleet
    for process in fleet.started:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    deadline = time.monotonic() + 15
    while fleet.pids() and time.monotonic() < deadline:
        time.sleep(0.1)
    left = fleet.pids()
    fleet.kill(left)
    assert not left, "processes were left behind"


@pytest.fixture
def start_sandbox(tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def start(*arguments: str, name: str = "sandbox") -> Iterator[Sandbox]:
        with running(tmp_path / name, "--client", "robot:key", *arguments) as sandbox:
            yield sandbox

    return start


CAMPAIGN = """
import json
from campaign import Backend, Campaign
from producer.grids import prepare_jobs_df, utm_grid

def table():
    return prepare_jobs_df(["2024-05-01", "2024-08-01"], utm_grid(bounds={bounds}, crs="{crs}", size={size}))

campaign = Campaign(
    name="{name}",
    table=table,
    backends=[Backend(name="local", url="{url}", auth="{auth}", parallel_jobs={parallel}, poll_interval=0.5)],
    output="{output}",
    max_attempts={max_attempts},
)

def start_job(row, connection, **kwargs):
    cube = connection.load_collection(
        "SENTINEL2_L2A",
        temporal_extent=[row["start_date"], row["end_date"]],
        spatial_extent=json.loads(row["spatial_extent"]),
        bands=["B04", "B08"],
    )
    return cube.ndvi().mean_time().create_job(title="ndvi", out_format="NetCDF")
"""


@pytest.fixture
def campaign_file(tmp_path: Path) -> Callable[..., Path]:
    def write(url: str, text: str = CAMPAIGN, **changes: Any) -> Path:
        words = {"name": "ndvi", "auth": "client_credentials", "parallel": 2, "output": "results", "max_attempts": 3}
        words |= {"bounds": (595000, 5660000, 599000, 5664000), "crs": "EPSG:32631", "size": 1000, "url": url}
        path = tmp_path / "campaign.py"
        path.write_text(text.format(**words | changes), "utf-8")
        return path

    return write
