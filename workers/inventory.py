"""What a back-end has of a campaign: all its jobs, whatever else is there, and why some of them failed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import requests
from openeo.rest import OpenEoApiError, OpenEoApiPlainError, OpenEoClientException

from workers.backend import error_logs, job_pages
from workers.failures import classify_job
from workers.stac import aware

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from openeo.rest.connection import Connection

    from campaign.failure import Rule

PAGE = 1000
"""Jobs asked for in one page of `GET /jobs`."""

_TOO_MANY = (400, 413, 422)
"""What back-ends may answer to that."""

_TOLD = ("id", "status", "title", "costs", "usage")
_AT_ONCE = 8


def list_jobs(connection: Connection, campaign: str) -> list[dict[str, Any]]:
    """The jobs whose title carries a marker of `campaign`.

    Returns:
        id, status and title of each, `created` (seconds since the epoch, or None), costs and usage where they are listed.
    """
    mark = f"[fleet:{campaign}/"
    ours = (job for job in all_jobs(connection) if mark in (job.get("title") or ""))
    return [{key: job.get(key) for key in _TOLD} | {"created": _seconds(job.get("created"))} for job in ours]


def all_jobs(connection: Connection) -> Iterator[dict[str, Any]]:
    """All of the user's jobs, each once, in whatever order and pages the back-end has them."""
    seen: set[str] = set()
    for jobs in _pages(connection):
        new = {str(job["id"]): job for job in jobs if str(job["id"]) not in seen}
        if jobs and not new:
            return  # pages that lead back to themselves
        seen |= new.keys()
        yield from new.values()


def _pages(connection: Connection) -> Iterator[list[dict[str, Any]]]:
    """Large pages, or such as the back-end takes."""
    pages = job_pages(connection, PAGE)
    try:
        first = next(pages, [])
    except OpenEoApiError as error:
        if error.http_status_code not in _TOO_MANY:
            raise
        return job_pages(connection)
    return chain([first], pages)


def why_failed(connection: Connection, job_ids: list[str], rules: Sequence[Rule]) -> dict[str, dict[str, Any]]:
    """Of each failed job: `error_class`, `error` (its error logs) and `costs`, where the back-end says."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(job_ids, pool.map(partial(_why_failed, connection, rules), job_ids), strict=True))


def _why_failed(connection: Connection, rules: Sequence[Rule], job_id: str) -> dict[str, Any]:
    failure = classify_job(error_logs(connection, job_id), rules)
    try:
        costs = connection.job(job_id).describe().get("costs")
    except (OpenEoApiPlainError, OpenEoClientException, requests.RequestException):
        costs = None
    return {"error_class": failure.error_class.value, "error": failure.message, "costs": costs}


def _seconds(created: Any) -> float | None:
    if not isinstance(created, (str, datetime)):
        return None
    try:
        return aware(created).timestamp()
    except ValueError:
        return None
