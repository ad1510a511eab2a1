"""What the producer has to ask back-ends, in a process of its own: one JSON object on standard input, one on output.

`python -P -m workers.ask log_in` takes `{"backends": [Backend, ...]}` and answers `{"problems": [line, ...]}`;
`python -P -m workers.ask stop_jobs` takes `{"backends": [...], "jobs": {back-end: [job id, ...]}}` and answers likewise.
Both take `{"files": {back-end: [path, text]}}`, too: the campaign files that log in where `auth` is `custom`.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from openeo.rest import OpenEoApiError, OpenEoApiPlainError, OpenEoClientException

from campaign.backends import Backend
from campaign.spec import Hooks, load_hooks
from workers.backend import FleetConnection, connect, job_pages
from workers.failures import LoginFailed, LoginUnavailable, clean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_AT_ONCE = 8
_GONE = (400, 404)

_CANNOT = (OpenEoApiError, OpenEoApiPlainError, OpenEoClientException, requests.RequestException, ValueError, KeyError)
"""What the client raises when a back-end does not do as it is asked."""

_CANNOT_CONNECT = (*_CANNOT, LoginFailed)


def log_in(backend: Backend, hooks: Hooks | None = None) -> list[str]:
    """What is wrong with a back-end: it does not answer, is no openEO back-end, or refuses the credentials."""
    try:
        connection = connect(backend, hooks)
        if backend.auth != "none":
            next(job_pages(connection), None)
    except _CANNOT_CONNECT as error:
        return [_told(backend, error)]
    return []


def stop_jobs(backend: Backend, job_ids: list[str], hooks: Hooks | None = None) -> list[str]:
    """Cancel jobs on a back-end; those that ended or are gone are left alone. Returns what went wrong."""
    try:
        connection = connect(backend, hooks)
    except _CANNOT_CONNECT as error:
        return [_told(backend, error)]
    failed = {job_id: problem for job_id in job_ids if (problem := _stop(connection, job_id)) is not None}
    if not failed:
        return []
    job_id, problem = next(iter(failed.items()))
    return [f"{len(failed)} of {len(job_ids)} jobs were not stopped, {job_id} first: {_told(backend, problem)}"]


def _stop(connection: FleetConnection, job_id: str) -> Exception | None:
    """Cancel one job; what went wrong, if anything did."""
    try:
        connection.job(job_id).stop()
    except _CANNOT as error:
        gone = isinstance(error, OpenEoApiError) and error.http_status_code in _GONE
        return None if gone else error
    return None


def _told(backend: Backend, error: Exception) -> str:
    """What went wrong on a back-end, on one line."""
    where = f"back-end {backend.name} ({backend.url})"
    if isinstance(error, (LoginFailed, LoginUnavailable)):
        return _line(error)
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return f"{where}: does not answer; check its url and your network"
    if isinstance(error, OpenEoApiPlainError) and not isinstance(error, OpenEoApiError):
        return f"{where}: HTTP {error.http_status_code}, not an openEO answer; check its url"
    return f"{where}: {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(clean(str(error)).split()) or type(error).__name__


def main() -> None:
    """Answer the question that the command line names; whatever goes wrong is one line without secrets."""
    try:
        _answer()
    except Exception as error:  # noqa: BLE001  (this process ends with it)
        sys.exit(f"{type(error).__name__}: {_line(error)}")


def _answer() -> None:
    question: dict[str, Any] = json.load(sys.stdin)
    backends = [Backend(**fields) for fields in question["backends"]]
    jobs = question.get("jobs", {})
    with redirect_stdout(sys.stderr), ThreadPoolExecutor(_AT_ONCE) as pool:  # a user's code may print
        hooks = _hooks(question.get("files", {}))
        answers: dict[str, Callable[[Backend], list[str]]] = {
            "log_in": lambda backend: log_in(backend, hooks.get(backend.name)),
            "stop_jobs": lambda backend: stop_jobs(backend, jobs.get(backend.name, []), hooks.get(backend.name)),
        }
        problems = [line for lines in pool.map(answers[sys.argv[1]], backends) for line in lines]
    json.dump({"problems": problems}, sys.stdout)


def _hooks(files: Mapping[str, list[str]]) -> dict[str, Hooks]:
    """The functions of campaign files by back-end; a file that several name is read once."""
    loaded = {(path, source): load_hooks(Path(path), source) for path, source in set(map(tuple, files.values()))}
    return {backend: loaded[path, source] for backend, (path, source) in files.items()}


if __name__ == "__main__":
    main()
