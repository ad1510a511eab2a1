"""The openEO network code beside logging in: connections, the job a tile asks for, the list of jobs, logs, results."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import requests
from openeo.rest import OpenEoApiError, OpenEoApiPlainError, OpenEoClientException
from openeo.rest.connection import Connection, paginate

from campaign.failure import ErrorClass
from workers.connection import same_origin
from workers.failures import ResultsIncomplete, Throttled, classify
from workers.stac import aware

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


PAGE = 100
"""Jobs asked for in one page of `GET /jobs`."""

CLOCK_SKEW = timedelta(minutes=10)
"""How far a back-end's clock may be off from ours when its list of jobs is searched."""

LOG_ENTRIES = 20
"""Error log entries kept of a failed job."""

_CHUNK_BYTES = 1 << 20
_SHA256 = "1220"
"""What a multihash of SHA-256 begins with: its code and its length in bytes, in hexadecimal."""

_CANNOT = (OpenEoApiPlainError, OpenEoClientException, requests.RequestException)
"""What the client raises when a back-end does not do as it is asked."""

_LINK_IS_OLD = (401, 403, 404, 410)
"""What object stores answer to a signed link that expired; the next try gets a new one."""

_JOB_EXISTS_CODES = frozenset({"JobLocked", "JobNotStartable"})


def job_pages(connection: Connection, size: int = PAGE) -> Iterator[list[dict[str, Any]]]:
    """The user's jobs, newest first, page by page, as `GET /jobs` lists them; back-ends may ignore the `size`."""
    for page in paginate(connection, "/jobs", params={"limit": size}):
        yield page.get("jobs", [])


def find_job(connection: Connection, marker: str, since: float) -> str | None:
    """The id of the job whose title carries `marker`, None if there is none created after `since` (epoch seconds)."""
    oldest = datetime.fromtimestamp(since, UTC) - CLOCK_SKEW
    for jobs in job_pages(connection):
        for job in jobs:
            if marker in (job.get("title") or "") and created_at(job) >= oldest:
                return str(job["id"])
        if ends_before(jobs, oldest):
            return None
    return None


def ends_before(jobs: list[dict[str, Any]], moment: datetime) -> bool:
    """Whether a page of jobs, newest first, ends before `moment`: then all that follow are older, too."""
    times = [created_at(job) for job in jobs]
    return bool(times) and times[-1] < moment and times == sorted(times, reverse=True)


def created_at(job: dict[str, Any]) -> datetime:
    """When a listed job was created; the end of time where the back-end does not say."""
    try:
        return aware(job["created"])
    except (KeyError, TypeError, ValueError):
        return datetime.max.replace(tzinfo=UTC)


def start(connection: Connection, job_id: str) -> None:
    """Start a job; one that was started before is left alone."""
    try:
        connection.job(job_id).start()
    except OpenEoApiError as error:
        if error.code not in _JOB_EXISTS_CODES:
            raise


def estimate(connection: Connection, job_id: str) -> float | None:
    """What the back-end estimates that a job will cost (credits), None where it does not say."""
    try:
        costs = connection.get(f"/jobs/{job_id}/estimate", expected_status=200).json().get("costs")
        return None if costs is None else float(costs)
    except (*_CANNOT, Throttled, AttributeError, ValueError, TypeError):
        return None


def cancel(connection: Connection, job_id: str) -> None:
    """Stop a job."""
    connection.job(job_id).stop()


def stop_quietly(connection: Connection, job_id: str, *, remove: bool) -> None:
    """Stop a job that is not wanted any more, and `remove` one that no tile knows; what stands in the way is left."""
    job = connection.job(job_id)
    for end in (job.stop, job.delete) if remove else (job.stop,):
        with suppress(*_CANNOT, Throttled):
            end()


def error_logs(connection: Connection, job_id: str) -> str:
    """The messages of a job's last error log entries, a line each; empty if they cannot be had.

    Raises:
        OpenEoApiPlainError: the back-end wants to be asked later.
        Throttled: too many requests wait for it.
    """
    try:
        entries = connection.job(job_id).logs(level="error")
    except _CANNOT as error:
        if classify(error).error_class is ErrorClass.CAPACITY:
            raise
        return ""
    return "\n".join(str(entry.get("message", "")) for entry in list(entries)[-LOG_ENTRIES:])


@dataclass(frozen=True)
class Asset:
    """One file among the results of a job."""

    name: str
    href: str
    size: int | None
    """Bytes, where the back-end says."""
    checksum: str = ""
    """`file:checksum`, where the back-end says."""


@dataclass(frozen=True)
class Results:
    """What a finished job has to offer."""

    assets: tuple[Asset, ...]
    interval: tuple[datetime, datetime] | None
    """First and last moment of the data, where the back-end says."""


def results(connection: Connection, job_id: str) -> Results:
    """The results of a finished job, from a STAC collection (API >= 1.1) or item (API 1.0)."""
    document = connection.job(job_id).get_results().get_metadata()
    root = connection.build_url(f"/jobs/{job_id}/results/")
    assets = tuple(
        Asset(
            name, requests.compat.urljoin(root, asset["href"]), asset.get("file:size"), asset.get("file:checksum", "")
        )
        for name, asset in document.get("assets", {}).items()
    )
    return Results(assets, _interval(document))


def _interval(document: dict[str, Any]) -> tuple[datetime, datetime] | None:
    intervals = document.get("extent", {}).get("temporal", {}).get("interval") or [[None, None]]
    properties = document.get("properties", {})
    start_text = intervals[0][0] or properties.get("start_datetime")
    end_text = intervals[0][1] or properties.get("end_datetime")
    if not start_text or not end_text:
        return None
    return aware(start_text), aware(end_text)


def download(connection: Connection, asset: Asset, target: Path) -> None:
    """Stream `asset` into `target`; the back-end's token goes to the back-end only.

    Raises:
        ResultsIncomplete: other bytes came than were announced.
    """
    auth = connection.auth if same_origin(connection.root_url, asset.href) else None
    try:
        response = connection.get(asset.href, stream=True, auth=auth)
    except OpenEoApiPlainError as error:
        if error.http_status_code in _LINK_IS_OLD:
            raise ResultsIncomplete(
                f"asset {asset.name}: HTTP {error.http_status_code}, its link is too old"
            ) from error
        raise
    with response, target.open("wb") as file:
        announced = response.headers.get("Content-Length")
        digest = hashlib.sha256()
        for chunk in response.iter_content(_CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
    size = target.stat().st_size
    encoded = "Content-Encoding" in response.headers
    expected = [asset.size] if encoded or announced is None else [asset.size, int(announced)]
    for wanted in expected:
        if wanted is not None and wanted != size:
            raise ResultsIncomplete(f"asset {asset.name}: {size} bytes came, {wanted} were announced")
    if asset.checksum.startswith(_SHA256) and asset.checksum != _SHA256 + digest.hexdigest():
        raise ResultsIncomplete(f"asset {asset.name}: its checksum is not the one that was announced")
