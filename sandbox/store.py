"""Jobs and their logs in SQLite: the back-end's memory across restarts."""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sandbox.errors import OpenEOError
from sandbox.fates import Fates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    status TEXT NOT NULL,
    submission TEXT NOT NULL,        -- what the client sent, JSON
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    queued_at REAL,                  -- seconds since the epoch
    started_at REAL,
    ended_at REAL,
    outcome TEXT                     -- files, costs and usage, JSON
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, queued_at);
CREATE INDEX IF NOT EXISTS jobs_by_user ON jobs (user, seq);
CREATE TABLE IF NOT EXISTS logs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    level TEXT NOT NULL,
    time TEXT NOT NULL,
    code TEXT,
    message TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS logs_by_job ON logs (job, seq);
CREATE TABLE IF NOT EXISTS late (
    job TEXT PRIMARY KEY,
    until REAL NOT NULL              -- seconds since the epoch; users see the job from then on
);
"""
_VISIBLE = "NOT EXISTS (SELECT 1 FROM late WHERE late.job = jobs.id AND late.until > :now)"
#: Beyond all sequence numbers.
_EDGE = 1 << 62
LEVELS = ("error", "warning", "info", "debug")


@dataclass(frozen=True)
class Job:
    """One batch job as it is stored."""

    seq: int
    id: str
    user: str
    status: str
    submission: dict[str, Any]
    created: str
    updated: str
    queued_at: float | None
    started_at: float | None
    ended_at: float | None
    outcome: dict[str, Any] | None

    @property
    def title(self) -> str:
        """The title, or nothing."""
        return self.submission.get("title") or ""

    @property
    def process_graph(self) -> dict[str, Any]:
        """The process graph."""
        graph: dict[str, Any] = self.submission["process"]["process_graph"]
        return graph


class Store:
    """The SQLite file; one connection, used from the server's event loop only.

    Attributes:
        fates: which rules of the script its jobs met.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)
        self.fates = Fates(self._db)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def create(self, user: str, submission: dict[str, Any]) -> Job:
        """A new job in status `created`."""
        now = datetime.now(UTC)
        job_id = f"j-{now:%y%m%d%H%M%S}{secrets.token_hex(10)}"
        stamp = rfc3339(now)
        rows = self._db.execute(
            "INSERT INTO jobs (id, user, status, submission, created, updated) VALUES (?, ?, 'created', ?, ?, ?)"
            " RETURNING *",
            (job_id, user, json.dumps(submission), stamp, stamp),
        ).fetchall()
        return _job(rows[0])

    def add(self, rows: Iterable[dict[str, Any]], first: int | None = None) -> None:
        """Put in whole rows at once, with sequence numbers from `first` on, by default as the newest."""
        columns = "id, user, status, submission, created, updated, queued_at, started_at, ended_at, outcome"
        values = ", ".join(f":{column}" for column in columns.split(", "))
        numbered = ({**row, "seq": None if first is None else first + place} for place, row in enumerate(rows))
        self._db.executemany(f"INSERT INTO jobs (seq, {columns}) VALUES (:seq, {values})", numbered)  # noqa: S608 - ours

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is changed in the block."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def add_past(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Put in jobs older than all others, the oldest first, once in the file's life; whether it was this time."""
        with self.transaction():
            if self._db.execute("PRAGMA user_version").fetchone()[0]:
                return False
            # The numbers of jobs that are made later begin at 1 all the same.
            self.add(rows, 1 - len(rows))
            self._db.execute("PRAGMA user_version = 1")
        return True

    def hide(self, job_id: str, seconds: float) -> None:
        """Let nobody see a job for a while."""
        self._db.execute("INSERT INTO late VALUES (?, ?)", (job_id, time.time() + seconds))

    def get(self, user: str, job_id: str) -> Job:
        """A user's job.

        Raises:
            OpenEOError: JobNotFound, also when it is another user's or hidden.
        """
        row = self._db.execute(
            f"SELECT * FROM jobs WHERE id = :id AND user = :user AND {_VISIBLE}",  # noqa: S608 - ours
            {"id": job_id, "user": user, "now": time.time()},
        ).fetchone()
        if row is None:
            raise OpenEOError("JobNotFound", f"The batch job {job_id!r} does not exist.")
        return _job(row)

    def find(self, job_id: str) -> Job | None:
        """A job of any user, hidden or not."""
        row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return _job(row) if row is not None else None

    def page(self, user: str, beyond: int | None, limit: int | None, *, oldest_first: bool = False) -> list[Job]:
        """A user's jobs, newest or oldest first, those that come after the one with sequence number `beyond`."""
        sign, order = (">", "ASC") if oldest_first else ("<", "DESC")
        edge = -_EDGE if oldest_first else _EDGE
        rows = self._db.execute(
            f"SELECT * FROM jobs WHERE user = :user AND seq {sign} :beyond AND {_VISIBLE} ORDER BY seq {order} LIMIT :limit",  # noqa: S608 - ours
            {
                "user": user,
                "beyond": beyond if beyond is not None else edge,
                "limit": limit if limit is not None else -1,
                "now": time.time(),
            },
        )
        return [_job(row) for row in rows]

    def by_status(self, status: str, limit: int) -> list[Job]:
        """Jobs of any user in a status, the longest queued first."""
        rows = self._db.execute("SELECT * FROM jobs WHERE status = ? ORDER BY queued_at, seq LIMIT ?", (status, limit))
        return [_job(row) for row in rows]

    def move(self, job_id: str, expected: Sequence[str], status: str, **values: Any) -> bool:
        """Change a job's status and columns if it is in one of the expected statuses; whether it was."""
        columns = {"status": status, "updated": rfc3339(datetime.now(UTC)), **values}
        if isinstance(columns.get("outcome"), dict):
            columns["outcome"] = json.dumps(columns["outcome"])
        changes = ", ".join(f"{column} = ?" for column in columns)
        marks = ", ".join("?" for _ in expected)
        cursor = self._db.execute(
            f"UPDATE jobs SET {changes} WHERE id = ? AND status IN ({marks})",  # noqa: S608 - names are ours
            (*columns.values(), job_id, *expected),
        )
        return cursor.rowcount > 0

    def update(self, job_id: str, submission: dict[str, Any]) -> None:
        """Replace what the client sent."""
        self._db.execute(
            "UPDATE jobs SET submission = ?, updated = ? WHERE id = ?",
            (json.dumps(submission), rfc3339(datetime.now(UTC)), job_id),
        )

    def delete(self, job_id: str) -> None:
        """Forget a job and its logs."""
        self._db.execute("DELETE FROM logs WHERE job = ?", (job_id,))
        self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def count(self, user: str, *statuses: str) -> int:
        """How many of a user's jobs are in one of some statuses."""
        marks = ", ".join("?" for _ in statuses)
        query = f"SELECT count(*) FROM jobs WHERE status IN ({marks}) AND user = ?"  # noqa: S608 - marks only
        return int(self._db.execute(query, (*statuses, user)).fetchone()[0])

    def counts(self) -> dict[str, int]:
        """Number of jobs of all users in each status."""
        return dict(self._db.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall())

    def spent(self, user: str) -> float:
        """Credits a user's jobs have cost."""
        query = "SELECT total(json_extract(outcome, '$.costs')) FROM jobs WHERE user = ?"
        return float(self._db.execute(query, (user,)).fetchone()[0])

    def log(self, job_id: str, level: str, message: str, code: str | None = None) -> None:
        """Add an entry to a job's logs."""
        self._db.execute(
            "INSERT INTO logs (job, level, time, code, message) VALUES (?, ?, ?, ?, ?)",
            (job_id, level, rfc3339(datetime.now(UTC)), code, message),
        )

    def clear_logs(self, job_id: str) -> None:
        """Forget a job's logs: it starts anew."""
        self._db.execute("DELETE FROM logs WHERE job = ?", (job_id,))

    def logs(self, job_id: str, after: int, levels: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """Log entries of some levels after an offset, oldest first, in openEO's form."""
        marks = ", ".join("?" for _ in levels)
        rows = self._db.execute(
            f"SELECT * FROM logs WHERE job = ? AND seq > ? AND level IN ({marks}) ORDER BY seq LIMIT ?",  # noqa: S608 - marks only
            (job_id, after, *levels, limit),
        )
        return [_entry(row) for row in rows]


def rfc3339(moment: datetime) -> str:
    """A time (UTC) as openEO writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    values["submission"] = json.loads(values["submission"])
    values["outcome"] = json.loads(values["outcome"]) if values["outcome"] else None
    return Job(**values)


def _entry(row: sqlite3.Row) -> dict[str, Any]:
    entry = {"id": str(row["seq"]), "level": row["level"], "message": row["message"], "time": row["time"]}
    return {**entry, "code": row["code"]} if row["code"] else entry
