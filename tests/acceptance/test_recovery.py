"""Whatever is killed or stopped, the same command goes on, and no tile gets a second job."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import openeo
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER = re.compile(r"\[fleet:ndvi/([^/]+)/(\d+) \w+\]$")


@pytest.fixture(autouse=True)
def _credentials(fleet: Any) -> None:
    fleet.environment |= {"FLEET_LOCAL_CLIENT_ID": "robot", "FLEET_LOCAL_CLIENT_SECRET": "key"}


def jobs(url: str) -> list[dict[str, Any]]:
    connection = openeo.connect(url).authenticate_oidc_client_credentials("robot", "key")
    return list(connection.list_jobs(limit=1000))


def jobs_per_tile(url: str) -> Counter[str]:
    markers = [MARKER.search(job["title"]) for job in jobs(url)]
    assert all(markers)
    return Counter(marker.group(1) for marker in markers if marker)


def published(fleet: Any) -> int:
    return int(fleet.counts("ndvi").get("published", 0))


def test_every_worker_killed_and_then_run_itself(
    fleet: Any, start_sandbox: Any, campaign_file: Any, wait_until: Callable[..., Any]
) -> None:
    with start_sandbox("--behaviour", "fast=1", "--behaviour", "job_seconds=0.7") as sandbox:
        file = str(campaign_file(sandbox.url))
        first = fleet.start("run", file, "--no-flower")
        wait_until(lambda: 2 <= published(fleet) < 12)
        workers = fleet.workers()
        assert len(workers) >= 4
        fleet.kill(workers)
        wait_until(lambda: len(set(fleet.workers()) - set(workers)) >= 4)  # started again by `run`
        before = published(fleet)
        wait_until(lambda: published(fleet) > before)
        fleet.kill([*fleet.workers(), first.pid])
        assert first.wait(10) == -signal.SIGKILL

        again = fleet("run", file, "--no-flower")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "16 of 16 tiles published" in again.stdout
        assert jobs_per_tile(sandbox.url) == Counter(dict.fromkeys(jobs_per_tile(sandbox.url), 1))
        assert len(jobs(sandbox.url)) == 16


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed(
    fleet: Any, start_sandbox: Any, campaign_file: Any, wait_until: Callable[..., Any], number: signal.Signals
) -> None:
    with start_sandbox("--behaviour", "fast=1", "--behaviour", "job_seconds=0.5") as sandbox:
        file = str(campaign_file(sandbox.url, bounds=(595000, 5660000, 598000, 5663000)))
        first = fleet.start("run", file, "--no-flower")
        wait_until(lambda: published(fleet) >= 1)
        os.kill(first.pid, number)
        output, _ = first.communicate(timeout=40)
        assert first.returncode == 130, output
        assert "the same command resumes" in output
        assert fleet.pids("\0-m\0workers\0") == []
        again = fleet("run", file, "--no-flower")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "9 of 9 tiles published" in again.stdout
        assert len(jobs(sandbox.url)) == 9


def test_redis_killed(fleet: Any, start_sandbox: Any, campaign_file: Any, wait_until: Callable[..., Any]) -> None:
    with start_sandbox("--behaviour", "fast=1", "--behaviour", "job_seconds=0.7") as sandbox:
        run = fleet.start("run", str(campaign_file(sandbox.url)), "--no-flower")
        wait_until(lambda: 2 <= published(fleet) < 10)
        before = fleet.redis_pid()
        os.kill(before, signal.SIGKILL)
        output, _ = run.communicate(timeout=120)
        assert run.returncode == 0, output
        assert "16 of 16 tiles published" in output
        assert output.count("Redis does not answer") == 1
        assert "Traceback" not in output
        assert len(jobs(sandbox.url)) == 16


def test_a_lost_answer_makes_no_second_job(fleet: Any, start_sandbox: Any, campaign_file: Any) -> None:
    faults = ("--behaviour", "fast=1", "--behaviour", "lost_answers=0.4", "--behaviour", "lost_starts=0.3")
    with start_sandbox(*faults) as sandbox:
        done = fleet("run", str(campaign_file(sandbox.url)), "--no-flower")
        assert done.returncode == 0, done.stdout + done.stderr
        assert sandbox.stats()["faults"]["lost_answers"] > 0
        assert len(jobs(sandbox.url)) == 16


def test_a_finished_campaign_run_again_asks_nothing(fleet: Any, start_sandbox: Any, campaign_file: Any) -> None:
    with start_sandbox("--behaviour", "fast=1") as sandbox:
        file = str(campaign_file(sandbox.url, bounds=(595000, 5660000, 597000, 5662000)))
        assert fleet("run", file, "--no-flower").returncode == 0
        sandbox.clear_stats()
        again = fleet("run", file, "--no-flower")
        assert again.returncode == 0
        assert "4 of 4 tiles published" in again.stdout
        assert sum(sandbox.stats()["requests"].values()) == 0
        assert fleet("run", "ndvi").returncode == 0  # by name, too


def test_two_runs_in_one_folder_do_not_meet(
    fleet: Any, start_sandbox: Any, campaign_file: Any, wait_until: Callable[..., Any]
) -> None:
    with start_sandbox("--behaviour", "fast=1", "--behaviour", "job_seconds=30") as sandbox:
        file = str(campaign_file(sandbox.url))
        fleet.start("run", file, "--no-flower")
        wait_until(lambda: fleet.counts("ndvi").get("running"))
        second = fleet("run", file, "--no-flower")
        assert second.returncode == 2
        assert "another run is active" in second.stderr
