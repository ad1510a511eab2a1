"""What the producer has to ask back-ends, in a process of its own: one JSON object on standard input, one on output.

`python -P -m workers.ask QUESTION` takes `{"backends": [Backend, ...], ...}` and answers `{"problems": [line, ...], ...}`:

- `log_in`: nothing more.
- `stop_jobs`, `delete_jobs`: takes `"jobs": {back-end: [job id, ...]}`.
- `list_jobs`: takes `"campaign": name`; answers `"found": {back-end: [job, ...]}`, see `workers.inventory.list_jobs`.
- `why_failed`: takes `"jobs"` and `"rules": [Rule, ...]`; answers `"found": {back-end: {job id: reason}}`, see
  `workers.inventory.why_failed`.

All take `"files": {back-end: [path, text]}`, too: the campaign files that log in where `auth` is `custom`.
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
from campaign.failure import Rule
from campaign.spec import Hooks, load_hooks
from workers import inventory
from workers.backend import job_pages
from workers.connection import FleetConnection, connect
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
    return _end_jobs(backend, job_ids, hooks, delete=False)


def delete_jobs(backend: Backend, job_ids: list[str], hooks: Hooks | None = None) -> list[str]:
    """Delete jobs on a back-end; those that are gone are left alone. Returns what went wrong."""
    return _end_jobs(backend, job_ids, hooks, delete=True)


def _end_jobs(backend: Backend, job_ids: list[str], hooks: Hooks | None, *, delete: bool) -> list[str]:
    if not job_ids:
        return []
    try:
        connection = connect(backend, hooks)
    except _CANNOT_CONNECT as error:
        return [_told(backend, error)]
    failed = {job_id: problem for job_id in job_ids if (problem := _end(connection, job_id, delete=delete)) is not None}
    if not failed:
        return []
    job_id, problem = next(iter(failed.items()))
    return [
        f"{len(failed)} of {len(job_ids)} jobs were not {'deleted' if delete else 'stopped'}, {job_id} first: {_told(backend, problem)}"
    ]


def _end(connection: FleetConnection, job_id: str, *, delete: bool) -> Exception | None:
    """Cancel or delete one job; what went wrong, if anything did."""
    job = connection.job(job_id)
    try:
        job.delete() if delete else job.stop()
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
    with redirect_stdout(sys.stderr), ThreadPoolExecutor(_AT_ONCE) as pool:  # a user's code may print
        asked = _Question(sys.argv[1], question)
        problems = [line for lines in pool.map(asked.answer, backends) for line in lines]
    json.dump({"problems": problems, "found": asked.found}, sys.stdout)


class _Question:
    """What is asked of each back-end."""

    def __init__(self, name: str, about: dict[str, Any]) -> None:
        self.found: dict[str, Any] = {}
        self._hooks = _hooks(about.get("files", {}))
        self._jobs: dict[str, list[str]] = about.get("jobs", {})
        self._rules = [Rule(**rule) for rule in about.get("rules", ())]
        self._campaign: str = about.get("campaign", "")
        self._ask: Callable[[Backend], list[str]] = {
            "log_in": self._log_in,
            "stop_jobs": self._stop_jobs,
            "delete_jobs": self._delete_jobs,
            "list_jobs": self._list_jobs,
            "why_failed": self._why_failed,
        }[name]

    def answer(self, backend: Backend) -> list[str]:
        """What went wrong on one of them; what was looked for is in `found`."""
        return self._ask(backend)

    def _log_in(self, backend: Backend) -> list[str]:
        return log_in(backend, self._hooks.get(backend.name))

    def _stop_jobs(self, backend: Backend) -> list[str]:
        return stop_jobs(backend, self._jobs.get(backend.name, []), self._hooks.get(backend.name))

    def _delete_jobs(self, backend: Backend) -> list[str]:
        return delete_jobs(backend, self._jobs.get(backend.name, []), self._hooks.get(backend.name))

    def _list_jobs(self, backend: Backend) -> list[str]:
        return self._look_up(backend, lambda connection: inventory.list_jobs(connection, self._campaign))

    def _why_failed(self, backend: Backend) -> list[str]:
        jobs = self._jobs.get(backend.name, [])
        return self._look_up(backend, lambda connection: inventory.why_failed(connection, jobs, self._rules))

    def _look_up(self, backend: Backend, look: Callable[[FleetConnection], Any]) -> list[str]:
        try:
            self.found[backend.name] = look(connect(backend, self._hooks.get(backend.name)))
        except _CANNOT_CONNECT as error:
            return [_told(backend, error)]
        return []


def _hooks(files: Mapping[str, list[str]]) -> dict[str, Hooks]:
    """The functions of campaign files by back-end; a file that several name is read once."""
    loaded = {(path, source): load_hooks(Path(path), source) for path, source in set(map(tuple, files.values()))}
    return {backend: loaded[path, source] for backend, (path, source) in files.items()}


if __name__ == "__main__":
    main()
