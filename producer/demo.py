"""demo: the Antwerp NDVI example on a sandbox of its own, from nothing to a catalog and a map."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from campaign.errors import FleetError, InvalidInput
from campaign.spec import load_campaign
from producer.processes import Child, Processes
from producer.run import run

if TYPE_CHECKING:
    from rich.console import Console

    from campaign.settings import Settings

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "antwerp_ndvi" / "campaign.py"

BACKEND = "cdse"
"""The back-end of the example that the sandbox stands in for."""

CLIENT = "demo"
"""Id and secret of the OIDC client that the throw-away sandbox knows."""

POLL_INTERVAL = 1.0
"""Seconds between two looks at the sandbox, whose jobs last about as long."""

_SECONDS_TO_START = 60.0


def demo(settings: Settings, console: Console) -> int:
    """Run the example; a second time resumes or shows it.

    Returns:
        The exit code of `run`.

    Raises:
        InvalidInput: the sandbox's engine is not installed.
    """
    if not EXAMPLE.exists():
        raise InvalidInput("the demo needs the project's examples folder: run it in a checkout")
    if find_spec("openeo_processes_dask_slim") is None:
        raise InvalidInput("the demo needs the sandbox: pip install 'openeo-fleet[sandbox]'")
    os.environ |= {"FLEET_CDSE_CLIENT_ID": CLIENT, "FLEET_CDSE_CLIENT_SECRET": CLIENT}
    ready = settings.state_dir / "sandbox.json"
    ready.unlink(missing_ok=True)
    with Processes([_sandbox(settings, ready)]) as processes:
        url = _wait(ready, processes)
        console.print(f"sandbox (a local openEO back-end): {url}", highlight=False)
        file = load_campaign(EXAMPLE, urls={BACKEND: url})
        brisk = tuple(backend.model_copy(update={"poll_interval": POLL_INTERVAL}) for backend in file.backends)
        return run(replace(file, backends=brisk), settings, console)


def _sandbox(settings: Settings, ready: Path) -> Child:
    command = [sys.executable, "-P", "-m", "sandbox", "--parallel", "2", "--client", f"{CLIENT}:{CLIENT}"]
    command += ["--data", str(settings.state_dir / "sandbox"), "--ready-file", str(ready)]
    return Child("sandbox", command, dict(os.environ), settings.state_dir / "logs" / "sandbox.log")


def _wait(ready: Path, processes: Processes) -> str:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline and processes.children[0].running:
        if ready.exists() and (text := ready.read_text("utf-8")):
            return str(json.loads(text)["url"])
        time.sleep(0.05)
    raise FleetError(f"the sandbox does not start; see {processes.children[0].log_file}")
