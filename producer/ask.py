"""Asks `workers.ask`, which has the openEO client, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaign.errors import FleetError
from campaign.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from campaign.backends import Backend

_SECONDS = 300.0
_SECONDS_PER_JOB = 2.0
"""How long an answer may take, and how much longer for each job."""

_LONGEST_LINE = 500


Files = Mapping[str, tuple[str, str]]
"""Path and text of the campaign files that log in, by the back-ends whose `auth` is `custom`."""


def log_in_problems(backends: Iterable[Backend], seconds: float = _SECONDS, files: Files | None = None) -> list[str]:
    """What is wrong with each back-end or with the credentials for it, a line each; in at most `seconds`.

    Raises:
        FleetError: no answer came.
    """
    return _ask("log_in", _question(backends, files), seconds)


def stop_jobs(backends: Iterable[Backend], jobs: Mapping[str, Sequence[str]], files: Files | None = None) -> list[str]:
    """Cancel jobs (back-end -> job ids) on their back-ends; returns what went wrong, a line each.

    Raises:
        FleetError: no answer came.
    """
    seconds = _SECONDS + _SECONDS_PER_JOB * max(map(len, jobs.values()), default=0)
    return _ask("stop_jobs", _question(backends, files) | {"jobs": dict(jobs)}, seconds)


def _question(backends: Iterable[Backend], files: Files | None) -> dict[str, Any]:
    return {"backends": [backend.model_dump() for backend in backends], "files": dict(files or {})}


def _ask(question: str, about: dict[str, Any], seconds: float) -> list[str]:
    try:
        answer = subprocess.run(  # noqa: S603  (our own module)
            [sys.executable, "-P", "-m", "workers.ask", question],
            input=json.dumps(about),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FleetError(f"the back-ends were asked and did not answer within {seconds:.0f} s; try again") from error
    if answer.returncode:
        said = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
        raise FleetError(f"asking the back-ends failed: {scrub(said)[:_LONGEST_LINE]}")
    problems: list[str] = json.loads(answer.stdout)["problems"]
    return problems
