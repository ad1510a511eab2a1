"""What the producer has to ask back-ends, in a process of its own: one JSON object on standard input, one on output.

`python -m workers.ask log_in` takes `{"backends": [Backend, ...]}` and answers `{"problems": [line, ...]}`;
`python -m workers.ask stop_jobs` takes `{"backends": [...], "jobs": {back-end: [job id, ...]}}` and answers likewise.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import requests
from openeo.rest import OpenEoApiError, OpenEoApiPlainError, OpenEoClientException

from campaign.spec import Backend
from workers.backend import FleetConnection, connect, job_pages
from workers.failures import LoginFailed, clean

if TYPE_CHECKING:
    from collections.abc import Callable

_AT_ONCE = 8
_GONE = (400, 404)


def log_in(backend: Backend) -> list[str]:
    """What is wrong with a back-end: it does not answer, is no openEO back-end, or refuses the credentials."""
    return _told(backend, lambda connection: next(job_pages(connection), None) if backend.auth != "none" else None)


def stop_jobs(backend: Backend, job_ids: list[str]) -> list[str]:
    """Cancel jobs on a back-end; those that ended or are gone are left alone. Returns what went wrong."""
    return _told(backend, partial(_stop, job_ids=job_ids))


def _stop(connection: FleetConnection, job_ids: list[str]) -> None:
    for job_id in job_ids:
        try:
            connection.job(job_id).stop()
        except OpenEoApiError as error:
            if error.http_status_code not in _GONE:
                raise


def _told(backend: Backend, act: Callable[[FleetConnection], object]) -> list[str]:
    where = f"back-end {backend.name} ({backend.url})"
    try:
        act(connect(backend))
    except LoginFailed as error:
        return [clean(str(error))]
    except (requests.ConnectionError, requests.Timeout):
        return [f"{where}: does not answer; check its url and your network"]
    except OpenEoApiPlainError as error:
        return [f"{where}: HTTP {error.http_status_code}, not an openEO answer; check its url"]
    except (OpenEoApiError, OpenEoClientException, requests.RequestException, ValueError, KeyError) as error:
        return [f"{where}: {clean(str(error))}"]
    return []


def main() -> None:
    """Answer the question that the command line names."""
    question: dict[str, Any] = json.load(sys.stdin)
    backends = [Backend(**fields) for fields in question["backends"]]
    answers: dict[str, Callable[[Backend], list[str]]] = {
        "log_in": log_in,
        "stop_jobs": lambda backend: stop_jobs(backend, question["jobs"].get(backend.name, [])),
    }
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        problems = pool.map(partial(answers[sys.argv[1]]), backends)
        json.dump({"problems": [line for lines in problems for line in lines]}, sys.stdout)


if __name__ == "__main__":
    main()
