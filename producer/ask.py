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
    from campaign.failure import Rule

_SECONDS = 300.0
_SECONDS_PER_JOB = 2.0
"""How long an answer may take, and how much longer for each job."""

_SECONDS_TO_LIST = 1800.0
"""How long all jobs of a user may take to be listed: some have tens of thousands, in pages of a hundred."""

_LONGEST_LINE = 500


Files = Mapping[str, tuple[str, str]]
"""Path and text of the campaign files that log in, by the back-ends whose `auth` is `custom`."""


def log_in_problems(backends: Iterable[Backend], seconds: float = _SECONDS, files: Files | None = None) -> list[str]:
    """What is wrong with each back-end or with the credentials for it, a line each; in at most `seconds`.

    Raises:
        FleetError: no answer came.
    """
    return _problems("log_in", _question(backends, files), seconds)


def stop_jobs(
    backends: Iterable[Backend],
    jobs: Mapping[str, Sequence[str]],
    files: Files | None = None,
    *,
    delete: bool = False,
) -> list[str]:
    """Cancel (or `delete`) jobs (back-end -> job ids) on their back-ends; returns what went wrong, a line each.

    Raises:
        FleetError: no answer came.
    """
    asked = [backend for backend in backends if jobs.get(backend.name)]
    question = "delete_jobs" if delete else "stop_jobs"
    return _problems(question, _question(asked, files) | {"jobs": dict(jobs)}, _seconds_for(jobs))


def list_jobs(
    backends: Iterable[Backend], campaign: str, files: Files | None = None
) -> dict[str, list[dict[str, Any]]]:
    """All jobs of a campaign on its back-ends (see `workers.inventory`): back-end -> jobs.

    Raises:
        FleetError: one of them does not tell: then nothing is known.
    """
    question = _question(backends, files) | {"campaign": campaign}
    found: dict[str, list[dict[str, Any]]] = _found("list_jobs", question, _SECONDS_TO_LIST)
    return found


def why_failed(
    backends: Iterable[Backend],
    jobs: Mapping[str, Sequence[str]],
    rules: Sequence[Rule],
    files: Files | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Why failed jobs (back-end -> job ids) did (see `workers.inventory`): back-end -> job id -> reason.

    Raises:
        FleetError: one of them does not tell.
    """
    asked = [backend for backend in backends if jobs.get(backend.name)]
    question = _question(asked, files) | {"jobs": dict(jobs), "rules": [rule.model_dump(mode="json") for rule in rules]}
    found: dict[str, dict[str, dict[str, Any]]] = _found("why_failed", question, _seconds_for(jobs))
    return found


def _question(backends: Iterable[Backend], files: Files | None) -> dict[str, Any]:
    return {"backends": [backend.model_dump() for backend in backends], "files": dict(files or {})}


def _seconds_for(jobs: Mapping[str, Sequence[str]]) -> float:
    return _SECONDS + _SECONDS_PER_JOB * max(map(len, jobs.values()), default=0)


def _problems(question: str, about: dict[str, Any], seconds: float) -> list[str]:
    problems: list[str] = _ask(question, about, seconds)["problems"]
    return problems


def _found(question: str, about: dict[str, Any], seconds: float) -> dict[str, Any]:
    answer = _ask(question, about, seconds)
    if answer["problems"]:
        raise FleetError("\n".join(answer["problems"]))
    found: dict[str, Any] = answer["found"]
    return found


def _ask(question: str, about: dict[str, Any], seconds: float) -> dict[str, Any]:
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
    told: dict[str, Any] = json.loads(answer.stdout)
    return told
