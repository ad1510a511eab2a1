"""Asks `workers.ask`, which has the openEO client, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from campaign.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from campaign.spec import Backend

_SECONDS = 300


def log_in_problems(backends: Iterable[Backend]) -> list[str]:
    """What is wrong with each back-end or with the credentials for it, a line each."""
    return _ask("log_in", {"backends": [backend.model_dump() for backend in backends]})


def stop_jobs(backends: Iterable[Backend], jobs: Mapping[str, Sequence[str]]) -> list[str]:
    """Cancel jobs (back-end -> job ids) on their back-ends; returns what went wrong, a line each."""
    return _ask("stop_jobs", {"backends": [backend.model_dump() for backend in backends], "jobs": dict(jobs)})


def _ask(question: str, about: dict[str, Any]) -> list[str]:
    answer = subprocess.run(  # noqa: S603  (our own module)
        [sys.executable, "-m", "workers.ask", question],
        input=json.dumps(about),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if answer.returncode:
        raise FleetError(f"asking the back-ends failed: {answer.stderr.strip().splitlines()[-1:]}")
    problems: list[str] = json.loads(answer.stdout)["problems"]
    return problems
