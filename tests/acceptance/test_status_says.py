"""What `status` says when something is wrong, and that the campaign goes on when it is mended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.spawn import Sandbox

SMALL = {"bounds": (595000, 5660000, 598000, 5663000)}
DOWN = float(os.environ.get("DOWN_SECONDS", "12"))
"""Seconds for which the back-end does not answer."""


@pytest.fixture(autouse=True)
def _credentials(fleet: Any) -> None:
    fleet.environment |= {"FLEET_LOCAL_CLIENT_ID": "robot", "FLEET_LOCAL_CLIENT_SECRET": "key"}


@pytest.fixture
def says(fleet: Any, wait_until: Callable[..., Any]) -> Callable[..., str]:
    """Waits until `status` says something; all of what it says."""

    def wait(*words: str) -> str:
        def all_there() -> str:
            text = fleet("status", "ndvi").stdout
            return text if all(word in text for word in words) else ""

        text: str = wait_until(all_there, 90)
        print(text)  # noqa: T201
        return text

    return wait


def ends_well(run: Any, output_has: str = "9 of 9 tiles published") -> None:
    output, _ = run.communicate(timeout=200)
    assert run.returncode == 0, output
    assert output_has in output


def test_an_exception_of_the_users(fleet: Any, start_sandbox: Any, campaign_file: Any) -> None:
    with start_sandbox("--behaviour", "fast=1") as sandbox:
        path = campaign_file(sandbox.url)
        good = path.read_text()
        path.write_text(good.replace('json.loads(row["spatial_extent"])', 'json.loads(row["spatial_extend"])'))
        run = fleet("run", str(path), "--no-flower")
        assert run.returncode == 1
        text = fleet("status", "ndvi").stdout
        print(text)  # noqa: T201
        assert "paused: user_code: each of the first" in text
        assert "failed with the same error: KeyError: 'spatial_extend'" in text
        assert "openeo-fleet resume ndvi" in text
        assert (
            fleet.counts("ndvi")["not_started"] >= 1 if fleet.status("ndvi")["by_status"].get("not_started") else True
        )
        assert sandbox.stats()["requests"].get("POST /jobs", 0) == 0
        one = next(line for line in fleet("tiles", "ndvi", "--status", "failed").stdout.splitlines()).split("\t")[0]
        told = fleet("tiles", "ndvi", "--id", one).stdout
        assert 'spatial_extent=json.loads(row["spatial_extend"])' in told
        path.write_text(good)
        retried = fleet("retry", "ndvi", "--class", "user_code")
        assert retried.returncode == 0, retried.stderr
        again = fleet("run", str(path), "--no-flower")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "16 of 16 tiles published" in again.stdout


def test_credits_are_used_up(fleet: Any, start_sandbox: Any, campaign_file: Any, says: Callable[..., str]) -> None:
    with start_sandbox("--behaviour", "fast=1", "--behaviour", "credits=4") as sandbox:
        run = fleet.start("run", str(campaign_file(sandbox.url, **SMALL)), "--no-flower")
        text = says("payment:", "paused for", "published")
        assert "[402] PaymentRequired: The user has insufficient credits" in text
        sandbox.behave(credits=-1)
        assert fleet("resume", "--backend", "local").returncode == 0
        ends_well(run)


def test_a_secret_that_expires(fleet: Any, start_sandbox: Any, campaign_file: Any, says: Callable[..., str]) -> None:
    with start_sandbox("--behaviour", "fast=1", "--behaviour", "job_seconds=1") as sandbox:
        run = fleet.start("run", str(campaign_file(sandbox.url, **SMALL)), "--no-flower")
        says("running")
        sandbox.behave(revoked=True)
        text = says("auth:", "paused for")
        assert "key" not in text.replace("KeyError", "").split("auth:", 1)[1].split("\n")[0].split()
        sandbox.behave(revoked=False)
        assert fleet("resume", "--backend", "local").returncode == 0
        ends_well(run)
        assert jobs_made(sandbox) == 9


def test_a_back_end_that_is_down(fleet: Any, start_sandbox: Any, campaign_file: Any, says: Callable[..., str]) -> None:
    with start_sandbox("--behaviour", "fast=1", "--behaviour", "job_seconds=1") as sandbox:
        run = fleet.start("run", str(campaign_file(sandbox.url, **SMALL)), "--no-flower")
        says("running")
        sandbox.behave(down=DOWN)
        says("outage:", "paused for")
        ends_well(run)
        assert jobs_made(sandbox) == 9


def jobs_made(sandbox: Sandbox) -> int:
    return sum(number for status, number in sandbox.stats()["jobs"].items())
