"""Redis is lost in the middle of a campaign: nothing is paid for twice, and everything is delivered in the end."""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import openeo
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER = re.compile(r"\[fleet:ndvi/([^/]+)/(\d+) \w+\]$")
GRAPH = {"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}
THIRTY = (595000, 5660000, 600000, 5666000)


@pytest.fixture(autouse=True)
def _credentials(fleet: Any) -> None:
    fleet.environment |= {"FLEET_LOCAL_CLIENT_ID": "robot", "FLEET_LOCAL_CLIENT_SECRET": "key"}


@pytest.fixture
def sandbox(start_sandbox: Any) -> Any:
    with start_sandbox("--behaviour", "fast=1", "--behaviour", "job_seconds=0.7") as started:
        yield started


def connect(sandbox: Any) -> Any:
    return openeo.connect(sandbox.url).authenticate_oidc_client_credentials("robot", "key")


def jobs_per_tile(sandbox: Any) -> Counter[str]:
    titles = [job["title"] for job in connect(sandbox).list_jobs(limit=1000)]
    markers = [MARKER.search(title) for title in titles]
    assert all(markers)
    return Counter(marker.group(1) for marker in markers if marker)


def loses_its_redis(fleet: Any, file: str, wait_until: Callable[..., Any]) -> int:
    """Kill `run` with all that it started in the middle; returns how many tiles were published by then."""
    run = fleet.start("run", file, "--no-flower")
    wait_until(lambda: 5 <= fleet.counts("ndvi").get("published", 0) < 20)
    published = int(fleet.counts("ndvi")["published"])
    fleet.kill([run.pid, *fleet.pids()])
    assert run.wait(10) == -signal.SIGKILL
    wait_until(lambda: not fleet.pids())
    shutil.rmtree(fleet.state_dir)
    return published


def test_redis_is_lost_and_the_campaign_comes_back(
    fleet: Any, sandbox: Any, campaign_file: Any, wait_until: Callable[..., Any]
) -> None:
    file = str(campaign_file(sandbox.url, bounds=THIRTY))
    published = loses_its_redis(fleet, file, wait_until)
    before = jobs_per_tile(sandbox)
    assert published <= len(before) < 30

    refused = fleet("run", file, "--no-flower")
    assert refused.returncode == 2, refused.stdout
    (line,) = refused.stderr.strip().splitlines()
    for word in (
        "was run before",
        "tiles have their results",
        f"openeo-fleet recover {file}",
        "another name or output",
    ):
        assert word in line
    assert jobs_per_tile(sandbox) == before

    titles = [job["title"] for job in connect(sandbox).list_jobs(limit=1000)]
    connect(sandbox).create_job(GRAPH, title=titles[0])  # an answer that was lost
    sandbox.behave(job_seconds=100.0)
    second = connect(sandbox).create_job(GRAPH, title=titles[-1])
    second.start()

    done = fleet("recover", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rebuilt, 30 tiles" in done.stdout
    assert "2 orphans, 1 canceled, 1 deleted" in done.stdout
    sandbox.behave(job_seconds=0.7)
    assert "ndvi: 0 orphans\n" in fleet("recover", "ndvi").stdout

    again = fleet("run", file, "--no-flower")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "30 of 30 tiles published" in again.stdout
    statuses = Counter(job["status"] for job in connect(sandbox).list_jobs(limit=1000))
    assert statuses == {"finished": 30, "canceled": 1}
    connect(sandbox).job(second.job_id).delete()
    assert jobs_per_tile(sandbox) == Counter(dict.fromkeys(jobs_per_tile(sandbox), 1))


def test_what_is_there_is_rebuilt_with_one_job_per_tile(
    fleet: Any, sandbox: Any, campaign_file: Any, wait_until: Callable[..., Any]
) -> None:
    file = str(campaign_file(sandbox.url, bounds=THIRTY))
    loses_its_redis(fleet, file, wait_until)
    done = fleet("recover", file)
    assert done.returncode == 0, done.stdout + done.stderr
    again = fleet("run", file, "--no-flower")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "30 of 30 tiles published" in again.stdout
    per_tile = jobs_per_tile(sandbox)
    assert per_tile == Counter(dict.fromkeys(per_tile, 1))
    assert len(per_tile) == 30
