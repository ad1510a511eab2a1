"""Jobs that the user made elsewhere: a past of finished ones, and another client that makes some now."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sandbox.errors import OpenEOError
from sandbox.store import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Titles as people and programs give them, more often than once; some jobs have none.
_TITLES = (
    "NDVI monthly {month:%Y-%m}",
    "S2 median composite 31UFS {month:%Y-%m}",
    "crop type inference tile {number:05d}",
    "LCFM-Production {number:06d}_L2A",
    "test",
    "Untitled job",
    "biopar FAPAR veld {number}: Zélande / Ζηλανδία 🌱",
    "openeo-fleet",
    "NDVI B12",
    "",
)
_GRAPH = {
    "load1": {
        "process_id": "load_collection",
        "arguments": {
            "id": "SENTINEL2_L2A",
            "spatial_extent": {"west": 4.4, "south": 51.1, "east": 4.41, "north": 51.11},
            "temporal_extent": ["2024-05-01", "2024-05-20"],
            "bands": ["B04"],
        },
        "result": True,
    },
}
_YEAR, _HOUR = timedelta(days=365), timedelta(hours=1)
STATUSES = ("created", "queued", "finished")


@dataclass(frozen=True)
class Wanted:
    """What another client is to make."""

    jobs: int
    """How many; each is made now."""
    user: str
    """Whose they are."""
    status: str = "created"
    """created, queued (they run and take slots) or finished."""
    title: str | None = None
    """The title of each; None gives them different ones."""


def read_wanted(body: dict[str, Any], user: str) -> Wanted:
    """What a request asks for; the user if it names none.

    Raises:
        OpenEOError: BadRequest for what does not fit.
    """
    try:
        wanted = Wanted(**{"user": user, **body})
    except TypeError as error:
        raise OpenEOError("BadRequest", "There are jobs, user, status and title; jobs is needed.") from error
    if not isinstance(wanted.jobs, int) or wanted.jobs < 0 or wanted.status not in STATUSES:
        raise OpenEOError("BadRequest", f"jobs is a number, status one of {', '.join(STATUSES)}.")
    if not isinstance(wanted.user, str) or not isinstance(wanted.title, str | None):
        raise OpenEOError("BadRequest", "user and title are text.")
    return wanted


def past_jobs(count: int, user: str, now: datetime) -> Iterator[dict[str, Any]]:
    """Rows of finished jobs, the oldest first, evenly over the year that ended an hour ago."""
    for number in range(count):
        created = now - _HOUR - _YEAR * ((count - number - 0.5) / count)
        yield _row(number, user, created, "finished", None)


def new_jobs(wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Rows of jobs made now; those to be queued are created first."""
    status = "finished" if wanted.status == "finished" else "created"
    now = datetime.now(UTC)
    for number in range(wanted.jobs):
        yield _row(number, wanted.user, now, status, wanted.title)


def _row(number: int, user: str, created: datetime, status: str, title: str | None) -> dict[str, Any]:
    if title is None:
        title = _TITLES[number % len(_TITLES)].format(number=number, month=created)
    submission = {**({"title": title} if title else {}), "process": {"process_graph": _GRAPH}}
    finished = status == "finished"
    minutes = timedelta(minutes=2 + number % 37) if finished else timedelta()
    began, ended = created.timestamp(), (created + minutes).timestamp()
    return {
        "id": f"j-{created:%y%m%d%H%M%S}{secrets.token_hex(10)}",
        "user": user,
        "status": status,
        "submission": json.dumps(submission),
        "created": rfc3339(created),
        "updated": rfc3339(created + minutes),
        "queued_at": began if finished else None,
        "started_at": began if finished else None,
        "ended_at": ended if finished else None,
        "outcome": json.dumps({"files": []}) if finished else None,
    }
