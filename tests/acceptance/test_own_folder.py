"""A campaign file called campaign.py, run from its own folder: Python must not take it for our package."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

FOUR = (595000, 5660000, 597000, 5662000)
OURS = ("campaign", "producer", "workers", "sandbox")


@pytest.fixture(autouse=True)
def _credentials(fleet: Any) -> None:
    fleet.environment |= {"FLEET_LOCAL_CLIENT_ID": "robot", "FLEET_LOCAL_CLIENT_SECRET": "key"}


def test_run_where_the_campaign_file_is(fleet: Any, start_sandbox: Any, campaign_file: Any) -> None:
    with start_sandbox("--behaviour", "fast=1") as sandbox:
        folder = campaign_file(sandbox.url, bounds=FOUR).parent
        for name in OURS[1:]:
            (folder / f"{name}.py").write_text("raise ImportError('the wrong one')\n", "utf-8")
        done = fleet("run", "campaign.py", cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "4 of 4 tiles published" in done.stdout
        assert "Flower: http" in done.stdout
        assert "1 tiles sent back" not in fleet("retry", "ndvi", cwd=folder).stdout
        assert fleet("cancel", "ndvi", cwd=folder).returncode == 0


def workers(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "workers", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_workers_need_to_know_where_redis_is(tmp_path: Path) -> None:
    refused = workers(tmp_path, "worker")
    assert refused.returncode == 2
    assert refused.stderr == "error: FLEET_REDIS_URL is not set: a worker has to know where the fleet's Redis is\n"


def test_workers_refuse_wrong_settings_and_commands(tmp_path: Path) -> None:
    refused = workers(tmp_path, "worker", FLEET_TICK="soon")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "FLEET_TICK" in refused.stderr
    refused = workers(tmp_path, "wrker", FLEET_REDIS_URL="redis://127.0.0.1:1")
    assert refused.returncode == 2
    assert "No such command" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_variables_of_other_programs_do_not_turn_the_workers_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("raise ImportError('the wrong one')\n", "utf-8")
    shown = workers(
        tmp_path, "report", FLEET_REDIS_URL="redis://127.0.0.1:1/3", APP="other", CELERY_BROKER_URL="amqp://elsewhere"
    )
    assert shown.returncode == 0, shown.stderr
    assert "elsewhere" not in shown.stdout
    assert "127.0.0.1:1/3" in shown.stdout
