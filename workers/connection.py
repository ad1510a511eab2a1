"""The connection of a worker to a back-end: paced, logged in again by itself, and sure of what it asks for."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from openeo.rest import OpenEoApiPlainError
from requests.adapters import HTTPAdapter

from workers.failures import JobRefused, is_away
from workers.login import LoginConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from openeo.rest.job import BatchJob

    from campaign.backends import Backend
    from campaign.spec import Hooks

_CONNECTIONS = 16
"""Connections that are kept open by one worker process."""

_READ_AGAIN_AFTER = (0.3, 1.0)
"""Seconds after which a request that only reads is sent again."""

_PATIENCE = 5.0
"""Seconds that a request waits at most because the back-end asks for that."""

_OF_THE_MOMENT = frozenset({500, 502, 503, 504})
"""HTTP statuses that the next moment may not show."""


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
        self._wait.seconds = _seconds(response.headers.get("Retry-After", ""))

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
                if pause is None or method.lower() != "get" or not self._worth_another(error):
                    raise
                time.sleep(max(pause, getattr(error, "retry_after", None) or 0.0))
        raise AssertionError

    def _worth_another(self, error: Exception) -> bool:
        """Whether a request that only reads may well be answered if it is sent again in a moment.

        Where nobody paces the requests, a back-end that wants a moment gets it; else all workers leave it alone.
        """
        if not isinstance(error, OpenEoApiPlainError):
            return not is_away(error)
        patience = 0.0 if self._gate else _PATIENCE
        return error.http_status_code in _OF_THE_MOMENT and (getattr(error, "retry_after", None) or 0.0) <= patience

    def _send(self, method: str, path: str, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request; one that creates the job of a tile is recorded before."""
        if self._gate is not None and same_origin(self.build_url(path), self.root_url):
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


def _seconds(retry_after: str) -> float | None:
    """How long to wait by a Retry-After header, which gives seconds or a date; None where it says neither."""
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


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


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs are of the same server: only then one may have what is meant for the other."""
    first, second = urlsplit(one), urlsplit(other)
    return (first.scheme, first.hostname, first.port) == (second.scheme, second.hostname, second.port)
