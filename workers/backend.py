"""The only openEO network code: connections, the job a tile asks for, the list of jobs, logs, results."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from openeo.rest import OpenEoApiError, OpenEoApiPlainError, OpenEoClientException
from openeo.rest.connection import Connection, paginate

from workers.failures import JobRefused, LoginFailed, ResultsIncomplete
from workers.stac import aware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from openeo.rest.job import BatchJob

    from campaign.backends import Backend

PAGE = 100
"""Jobs asked for in one page of `GET /jobs`."""

CLOCK_SKEW = timedelta(minutes=10)
"""How far a back-end's clock may be off from ours when its list of jobs is searched."""

LOG_ENTRIES = 20
"""Error log entries kept of a failed job."""

_CHUNK_BYTES = 1 << 20
_SHA256 = "1220"
"""What a multihash of SHA-256 begins with: its code and its length in bytes, in hexadecimal."""

_LINK_IS_OLD = (401, 403, 404, 410)
"""What object stores answer to a signed link that expired; the next try gets a new one."""

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


_intent: ContextVar[Intent | None] = ContextVar("intent", default=None)


class FleetConnection(Connection):
    """A connection that marks the job of a tile in its title, logs in again by itself, and is shared by threads."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._login_lock = threading.Lock()
        retry = {"total": 2, "backoff_factor": 0.3, "status_forcelist": [502, 503, 504], "allowed_methods": ["GET"]}
        retry |= {"respect_retry_after_header": False, "raise_on_status": False}
        self._metadata: dict[str, Any] = {}
        self._wait = threading.local()
        super().__init__(backend.url, default_timeout=int(backend.timeout) or 1, auto_validate=False, retry=retry)
        self.session.hooks["response"].append(self._note_retry_after)

    def _note_retry_after(self, response: requests.Response, *_: Any, **__: Any) -> None:
        text = response.headers.get("Retry-After", "")
        self._wait.seconds = float(text) if text.isdigit() else None

    def request(self, method: str, path: str, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request; an error knows how long the back-end asked to wait (`retry_after`, seconds or None)."""
        try:
            response: requests.Response = super().request(method, path, *arguments, **options)
        except OpenEoApiPlainError as error:  # the base of OpenEoApiError, too
            vars(error)["retry_after"] = getattr(self._wait, "seconds", None)
            raise
        return response

    def collection_metadata(self, name: str) -> Any:
        """The metadata of a collection, asked for once: every tile's `load_collection` wants it."""
        if name not in self._metadata:
            self._metadata[name] = super().collection_metadata(name)
        return self._metadata[name]

    def log_in(self) -> None:
        """Authenticate as the back-end's settings and the environment say.

        Raises:
            LoginFailed: credentials are missing or refused; names the variables to set, never their values.
        """
        backend = self.backend
        if backend.auth == "none":
            return
        names = ("USERNAME", "PASSWORD") if backend.auth == "basic" else ("CLIENT_ID", "CLIENT_SECRET")
        variables = " and ".join(backend.variable(name) for name in names)
        user, secret = (backend.secret(name) for name in names)
        try:
            if backend.auth == "basic":
                self.authenticate_basic(user, secret if user is None else secret or "")
            elif user and secret:
                self.authenticate_oidc_client_credentials(user, secret, provider_id=backend.provider_id)
            else:
                self.authenticate_oidc_client_credentials(provider_id=backend.provider_id)
        except (OpenEoApiError, OpenEoClientException) as error:
            if getattr(error, "http_status_code", 401) >= requests.codes.server_error:
                raise
            found = "were refused" if user and secret else "are not set"
            raise LoginFailed(f"back-end {backend.name}: cannot log in; {variables} {found}") from error

    def try_access_token_refresh(self, *, reason: str | None = None) -> bool:
        """Get a new token, also where the first came from a user name and a password."""
        stale = self.auth
        with self._login_lock:
            if self.auth is not stale:
                return True
            if self.backend.auth != "basic":
                return bool(super().try_access_token_refresh(reason=reason))
            self.log_in()
            return True

    def create_job(self, process_graph: Any, *, title: str | None = None, **options: Any) -> BatchJob:
        """Create a job; while a worker submits a tile, with the tile's marker in its title, and only one."""
        intent = _intent.get()
        if intent is None:
            return super().create_job(process_graph, title=title, **options)
        if intent.sent:
            raise JobRefused("start_job created more than one job; a tile has one job at a time")
        job = super().create_job(process_graph, title=f"{title or 'openeo-fleet'} {intent.marker}", **options)
        intent.job_id = job.job_id
        return job

    def post(self, path: str, json: dict[str, Any] | None = None, **options: Any) -> requests.Response:
        """POST; records that a tile's job is asked for, and notices when the user's function starts it by itself."""
        intent = _intent.get()
        if intent is not None and path == "/jobs":
            intent.before()
            intent.sent = True
        response = super().post(path, json=json, **options)
        if intent is not None and intent.job_id and path.endswith(f"/jobs/{intent.job_id}/results"):
            intent.started = True
        return response


@contextmanager
def submitting(intent: Intent) -> Iterator[None]:
    """Jobs created in the block, in this thread, are those of `intent`."""
    token = _intent.set(intent)
    try:
        yield
    finally:
        _intent.reset(token)


def connect(backend: Backend) -> FleetConnection:
    """A connection to `backend`, logged in."""
    connection = FleetConnection(backend)
    connection.log_in()
    return connection


def job_pages(connection: Connection, limit: int = PAGE) -> Iterator[list[dict[str, Any]]]:
    """The user's jobs, newest first on most back-ends, page by page, as `GET /jobs` lists them."""
    for page in paginate(connection, "/jobs", params={"limit": limit}):
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


def stop_quietly(connection: Connection, job_id: str, *, remove: bool) -> None:
    """Stop a job that is not wanted any more, and `remove` one that no tile knows; what stands in the way is left."""
    job = connection.job(job_id)
    for end in (job.stop, job.delete) if remove else (job.stop,):
        with suppress(OpenEoApiError, OpenEoClientException, requests.RequestException):
            end()


def error_logs(connection: Connection, job_id: str) -> str:
    """The messages of a job's last error log entries, a line each; empty if they cannot be had."""
    try:
        entries = connection.job(job_id).logs(level="error")
    except (OpenEoApiError, OpenEoClientException, requests.RequestException):
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
