"""What the producer has to ask back-ends, in a process of its own: one JSON object on standard input, one on output.

`python -P -m workers.ask QUESTION` takes `{"backends": [Backend, ...], ...}` and answers `{"problems": [line, ...], ...}`:

- `log_in`: nothing more.
- `stop_jobs`, `delete_jobs`: takes `"jobs": {back-end: [job id, ...]}`.
- `list_jobs`: takes `"campaign": name`; answers `"found": {back-end: [job, ...]}`, see `workers.inventory.list_jobs`.
- `why_failed`: takes `"jobs"`; answers `"found": {back-end: {job id: reason}}`, see `workers.inventory.why_failed`.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import requests
from openeo.rest import OpenEoApiError, OpenEoApiPlainError, OpenEoClientException

from campaign.backends import Backend
from workers import inventory
from workers.backend import FleetConnection, connect, job_pages
from workers.failures import LoginFailed, clean

if TYPE_CHECKING:
    from collections.abc import Callable

_AT_ONCE = 8
_GONE = (400, 404)

_CANNOT = (OpenEoApiError, OpenEoApiPlainError, OpenEoClientException, requests.RequestException, ValueError, KeyError)
"""What the client raises when a back-end does not do as it is asked."""

_CANNOT_CONNECT = (*_CANNOT, LoginFailed)


def log_in(backend: Backend) -> list[str]:
    """What is wrong with a back-end: it does not answer, is no openEO back-end, or refuses the credentials."""
    try:
        connection = connect(backend)
        if backend.auth != "none":
            next(job_pages(connection), None)
    except _CANNOT_CONNECT as error:
        return [_told(backend, error)]
    return []


def stop_jobs(backend: Backend, job_ids: list[str]) -> list[str]:
    """Cancel jobs on a back-end; those that ended or are gone are left alone. Returns what went wrong."""
    return _end_jobs(backend, job_ids, "stopped", lambda connection, job_id: connection.job(job_id).stop())


def delete_jobs(backend: Backend, job_ids: list[str]) -> list[str]:
    """Delete jobs on a back-end; those that are gone are left alone. Returns what went wrong."""
    return _end_jobs(backend, job_ids, "deleted", lambda connection, job_id: connection.job(job_id).delete())


def _end_jobs(backend: Backend, job_ids: list[str], done: str, end: Callable[[FleetConnection, str], Any]) -> list[str]:
    if not job_ids:
        return []
    try:
        connection = connect(backend)
    except _CANNOT_CONNECT as error:
        return [_told(backend, error)]
    failed = {job_id: problem for job_id in job_ids if (problem := _end(connection, job_id, end)) is not None}
    if not failed:
        return []
    job_id, problem = next(iter(failed.items()))
    return [f"{len(failed)} of {len(job_ids)} jobs were not {done}, {job_id} first: {_told(backend, problem)}"]


def _end(connection: FleetConnection, job_id: str, end: Callable[[FleetConnection, str], Any]) -> Exception | None:
    """End one job; what went wrong, if anything did."""
    try:
        end(connection, job_id)
    except _CANNOT as error:
        gone = isinstance(error, OpenEoApiError) and error.http_status_code in _GONE
        return None if gone else error
    return None


def _told(backend: Backend, error: Exception) -> str:
    """What went wrong on a back-end, on one line."""
    where = f"back-end {backend.name} ({backend.url})"
    if isinstance(error, LoginFailed):
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
    jobs: dict[str, list[str]] = question.get("jobs", {})
    lines: dict[str, Callable[[Backend], list[str]]] = {
        "log_in": log_in,
        "stop_jobs": lambda backend: stop_jobs(backend, jobs.get(backend.name, [])),
        "delete_jobs": lambda backend: delete_jobs(backend, jobs.get(backend.name, [])),
    }
    lookups: dict[str, Callable[[FleetConnection], Any]] = {
        "list_jobs": lambda connection: inventory.list_jobs(connection, question["campaign"]),
        "why_failed": lambda connection: inventory.why_failed(connection, jobs.get(connection.backend.name, [])),
    }
    found: dict[str, Any] = {}

    def answer(backend: Backend) -> list[str]:
        if asked in lines:
            return lines[asked](backend)
        look_up = lookups[asked]
        try:
            found[backend.name] = look_up(connect(backend))
        except _CANNOT_CONNECT as error:
            return [_told(backend, error)]
        return []

    asked = sys.argv[1]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        problems = list(pool.map(answer, [Backend(**fields) for fields in question["backends"]]))
    json.dump({"problems": [line for told in problems for line in told], "found": found}, sys.stdout)


if __name__ == "__main__":
    main()
