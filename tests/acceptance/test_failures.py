"""Failed jobs: attempts, reasons, exit codes; what retry and cancel do about them; what is exported."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import openeo
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

FOUR = (595000, 5660000, 597000, 5662000)


@pytest.fixture(autouse=True)
def _credentials(fleet: Any) -> None:
    fleet.environment |= {"FLEET_LOCAL_CLIENT_ID": "robot", "FLEET_LOCAL_CLIENT_SECRET": "key"}


def test_failed_tiles_are_told_and_can_be_retried(fleet: Any, start_sandbox: Any, campaign_file: Any) -> None:
    with start_sandbox("--behaviour", "fast=1", "--behaviour", "failing_jobs=1") as sandbox:
        file = str(campaign_file(sandbox.url, bounds=FOUR, max_attempts=2))
        failed = fleet("run", file, "--no-flower")
        assert failed.returncode == 1, failed.stdout + failed.stderr
        assert "0 of 4 tiles published" in failed.stdout
        assert "4 x track, resources:" in failed.stdout
        listed = fleet("tiles", "ndvi", "--status", "failed").stdout.splitlines()
        assert len(listed) == 4
        one = fleet("tiles", "ndvi", "--id", listed[0].split("\t")[0]).stdout
        assert one.count("attempt 1, job j-") == 1
        assert one.count("attempt 2, job j-") == 1

        sandbox.reset(fast=True)
        retried = fleet("retry", "ndvi")
        assert "4 tiles sent back" in retried.stdout, retried.stderr
        done = fleet("run", file, "--no-flower")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "4 of 4 tiles published" in done.stdout


def test_no_data_is_not_tried_again(fleet: Any, start_sandbox: Any, campaign_file: Any) -> None:
    faults = ("--behaviour", "failing_jobs=1", "--behaviour", "failure=NoDataAvailable")
    with start_sandbox("--behaviour", "fast=1", *faults) as sandbox:
        done = fleet("run", str(campaign_file(sandbox.url, bounds=FOUR)), "--no-flower")
        assert done.returncode == 1
        assert "4 x track, data:" in done.stdout
        assert sandbox.stats()["requests"]["POST /jobs"] == 4


def test_canceled_campaign_stops_its_jobs(
    fleet: Any, start_sandbox: Any, campaign_file: Any, wait_until: Callable[..., Any]
) -> None:
    with start_sandbox("--behaviour", "fast=1", "--behaviour", "job_seconds=60") as sandbox:
        run = fleet.start("run", str(campaign_file(sandbox.url, bounds=FOUR)), "--no-flower")
        wait_until(lambda: fleet.counts("ndvi").get("running") == 2)
        canceled = fleet("cancel", "ndvi")
        assert "4 tiles canceled" in canceled.stdout, canceled.stderr
        run.communicate(timeout=30)
        connection = openeo.connect(sandbox.url).authenticate_oidc_client_credentials("robot", "key")
        assert {job["status"] for job in connection.list_jobs()} == {"canceled"}
        assert fleet.status("ndvi")["backends"]["local"]["jobs"] == {}


def test_export_has_the_job_managers_columns(fleet: Any, start_sandbox: Any, campaign_file: Any) -> None:
    with start_sandbox("--behaviour", "fast=1") as sandbox:
        assert fleet("run", str(campaign_file(sandbox.url, bounds=FOUR)), "--no-flower").returncode == 0
    path = fleet.workdir / "out.csv"
    assert fleet("export", "ndvi", str(path)).returncode == 0
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert [row["status"] for row in rows] == ["finished"] * 4
    assert all(row["id"].startswith("j-") and row["backend_name"] == "local" for row in rows)


def test_a_bug_in_start_job_fails_its_tiles_with_the_traceback(
    fleet: Any, start_sandbox: Any, campaign_file: Any
) -> None:
    with start_sandbox("--behaviour", "fast=1") as sandbox:
        path = campaign_file(sandbox.url, bounds=FOUR)
        text = path.read_text("utf-8")
        path.write_text(text.replace("    cube =", '    if row.name == 2: raise KeyError("oops")\n    cube ='), "utf-8")
        done = fleet("run", str(path), "--no-flower")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "3 of 4 tiles published" in done.stdout
        assert "1 x submit, user_code: KeyError: 'oops'" in done.stdout
        tile = fleet("tiles", "ndvi", "--status", "failed").stdout.split("\t")[0]
        assert "in start_job" in fleet("tiles", "ndvi", "--id", tile).stdout
