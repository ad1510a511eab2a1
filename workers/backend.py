"""The openEO network code beside logging in: connections, the job a tile asks for, the list of jobs, logs, results."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from openeo.rest import OpenEoApiError, OpenEoApiPlainError, OpenEoClientException
from openeo.rest.connection import Connection, paginate
from requests.adapters import HTTPAdapter

from campaign.failure import ErrorClass
from workers.failures import JobRefused, ResultsIncomplete, Throttled, classify
from workers.login import LoginConnection
from workers.stac import aware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from openeo.rest.job import BatchJob

    from campaign.backends import Backend
    from campaign.spec import Hooks

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

_CONNECTIONS = 16
"""Connections that are kept open by one worker process."""

_READ_AGAIN_AFTER = (0.3, 1.0)
"""Seconds after which a request that only reads is sent again."""

_OF_THE_MOMENT = frozenset({500, 502, 503, 504})
"""HTTP statuses that the next moment may not show."""

_JOB_EXISTS_CODES = frozenset({"JobLocked", "JobNotStartable"})


@dataclass
class Intent:
    """What a worker is about to do for a tile, and how far it got: known also when the answer never came."""

    marker: str
    """What the job's title has to carry."""
    before: Callable[[], None]
    """Called right before the job is asked for; records that it will be, or raises because another worker will."""
    sent: bool = False
    """Whether a job was asked for."""
    job_id: str = ""
    """The job, once the back-end named it."""
    started: bool = False
    """Whether the user's function started it already."""
    job_options: Mapping[str, Any] = field(default_factory=dict)
    """Job options that win over those of the user's function."""


_intent: ContextVar[Intent | None] = ContextVar("intent", default=None)


class FleetConnection(LoginConnection):
    """A connection that marks the job of a tile in its title, logs in again by itself, and is shared by threads."""

    def __init__(self, backend: Backend, hooks: Hooks | None = None, gate: Callable[[], None] | None = None) -> None:
        self._gate = gate
        self._metadata: dict[str, Any] = {}
        self._metadata_lock = threading.Lock()
        self._wait = threading.local()
        super().__init__(backend, hooks, default_timeout=int(backend.timeout) or 1, auto_validate=False, retry=False)
        self.session.mount("https://", adapter := HTTPAdapter(pool_maxsize=_CONNECTIONS))
        self.session.mount("http://", adapter)
        self.session.hooks["response"].append(self._note_retry_after)

    def _note_retry_after(self, response: requests.Response, *_: Any, **__: Any) -> None:
        text = response.headers.get("Retry-After", "")
        self._wait.seconds = float(text) if text.isdigit() else None

    def request(self, method: str, path: str, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request when its time has come; one that only reads is sent again where the answer is lost.

        An error knows how long the back-end asked to wait (`retry_after`, seconds or None).

        Raises:
            Throttled: too many requests wait for the back-end.
        """
        for pause in (*_READ_AGAIN_AFTER, None):
            try:
                return self._send(method, path, *arguments, **options)
            except (OpenEoApiPlainError, requests.ConnectionError) as error:
                if pause is None or method.lower() != "get" or not _worth_another(error):
                    raise
                time.sleep(pause)
        raise AssertionError

    def _send(self, method: str, path: str, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request; one that creates the job of a tile is recorded before."""
        if self._gate is not None and _same_origin(self.build_url(path), self.root_url):
            self._gate()
        intent = _intent.get()
        if intent is not None and method.lower() == "post" and path == "/jobs":
            intent.before()
            intent.sent = True
        try:
            response: requests.Response = super().request(method, path, *arguments, **options)
        except OpenEoApiPlainError as error:  # the base of OpenEoApiError, too
            vars(error)["retry_after"] = getattr(self._wait, "seconds", None)
            raise
        if intent is not None and intent.job_id and path.endswith(f"/jobs/{intent.job_id}/results"):
            intent.started |= method.lower() == "post"
        return response

    def collection_metadata(self, name: str) -> Any:
        """The metadata of a collection, asked for once: every tile's `load_collection` wants it."""
        with self._metadata_lock:  # threads that need it first wait for one answer
            if name not in self._metadata:
                self._metadata[name] = super().collection_metadata(name)
            return self._metadata[name]

    def create_job(
        self, process_graph: Any, *, title: str | None = None, job_options: dict[str, Any] | None = None, **more: Any
    ) -> BatchJob:
        """Create a job; while a worker submits a tile, with the tile's marker and job options, and only one."""
        intent = _intent.get()
        if intent is None:
            return super().create_job(process_graph, title=title, job_options=job_options, **more)
        if intent.sent:
            raise JobRefused("start_job created more than one job; a tile has one job at a time")
        marked = f"{title or 'openeo-fleet'} {intent.marker}"
        merged = {**(job_options or {}), **intent.job_options} or None
        job = super().create_job(process_graph, title=marked, job_options=merged, **more)
        intent.job_id = job.job_id
        return job


def _worth_another(error: Exception) -> bool:
    """Whether a request that only reads may well be answered if it is sent again at once."""
    if isinstance(error, OpenEoApiPlainError):
        return error.http_status_code in _OF_THE_MOMENT and not getattr(error, "retry_after", None)
    return classify(error).error_class is ErrorClass.TRANSIENT


@contextmanager
def submitting(intent: Intent) -> Iterator[None]:
    """Jobs created in the block, in this thread, are those of `intent`."""
    token = _intent.set(intent)
    try:
        yield
    finally:
        _intent.reset(token)


def connect(backend: Backend, hooks: Hooks | None = None, gate: Callable[[], None] | None = None) -> FleetConnection:
    """A connection to `backend`, logged in.

    Args:
        backend: where it is.
        hooks: their `authenticate` logs in where its `auth` is `custom`.
        gate: called before each request to it; waits until that may be sent.
    """
    connection = FleetConnection(backend, hooks, gate)
    connection.log_in()
    return connection


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
    except (*_CANNOT, Throttled, ValueError, TypeError):
        return None


def cancel(connection: Connection, job_id: str) -> None:
    """Stop a job."""
    connection.job(job_id).stop()


def stop_quietly(connection: Connection, job_id: str, *, remove: bool) -> None:
    """Stop a job that is not wanted any more, and `remove` one that no tile knows; what stands in the way is left."""
    job = connection.job(job_id)
    for end in (job.stop, job.delete) if remove else (job.stop,):
        with suppress(*_CANNOT):
            end()


def error_logs(connection: Connection, job_id: str) -> str:
    """The messages of a job's last error log entries, a line each; empty if they cannot be had."""
    try:
        entries = connection.job(job_id).logs(level="error")
    except _CANNOT:
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


def _same_origin(one: str, other: str) -> bool:
    first, second = urlsplit(one), urlsplit(other)
    return (first.scheme, first.hostname, first.port) == (second.scheme, second.hostname, second.port)


def download(connection: Connection, asset: Asset, target: Path) -> None:
    """Stream `asset` into `target`; the back-end's token goes to the back-end only.

    Raises:
        ResultsIncomplete: other bytes came than were announced.
    """
    auth = connection.auth if _same_origin(connection.root_url, asset.href) else None
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
