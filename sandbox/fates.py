"""Which rule of the script each job met, and when the operator steps in; kept across restarts."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from sandbox.script import NOTHING, Rule

if TYPE_CHECKING:
    import sqlite3

    from sandbox.store import Job

_SCHEMA = """
CREATE TABLE IF NOT EXISTS fates (
    job TEXT PRIMARY KEY,
    number INTEGER,                  -- place of the rule in the script; none if no rule matched
    rule TEXT NOT NULL               -- JSON
);
CREATE INDEX IF NOT EXISTS fates_by_rule ON fates (number, rule);
CREATE TABLE IF NOT EXISTS deadlines (
    job TEXT NOT NULL,
    at REAL NOT NULL,                -- seconds since the epoch
    deed TEXT NOT NULL               -- cancel or vanish
);
CREATE INDEX IF NOT EXISTS deadlines_by_time ON deadlines (at);
CREATE INDEX IF NOT EXISTS deadlines_by_job ON deadlines (job);
"""
CANCEL, VANISH = "cancel", "vanish"


class Fates:
    """Rules by job, in the store's database.

    Attributes:
        script: the rules for jobs that have met none yet.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._db.executescript(_SCHEMA)
        self.script: tuple[Rule, ...] = ()

    def forget(self) -> None:
        """Begin the script anew."""
        self._db.execute("DELETE FROM fates")
        self._db.execute("DELETE FROM deadlines")

    def of(self, job: Job) -> Rule:
        """The rule a job met before, or meets now."""
        row = self._db.execute("SELECT rule FROM fates WHERE job = ?", (job.id,)).fetchone()
        if row is not None:
            return Rule(**json.loads(row[0]))
        return self._decide(job) if self.script else NOTHING

    def plan(self, job: Job, now: float) -> None:
        """Note when the operator is to step in, for a job that is started now."""
        rule = self.of(job)
        self._db.execute("DELETE FROM deadlines WHERE job = ?", (job.id,))
        for deed, seconds in ((CANCEL, rule.cancel_after), (VANISH, rule.vanish_after)):
            if seconds >= 0:
                self._db.execute("INSERT INTO deadlines VALUES (?, ?, ?)", (job.id, now + seconds, deed))

    def next(self) -> tuple[str, float, str] | None:
        """Job, time and deed of the earliest deadline."""
        row = self._db.execute("SELECT job, at, deed FROM deadlines ORDER BY at LIMIT 1").fetchone()
        return tuple(row) if row is not None else None

    def done(self, job_id: str, deed: str) -> None:
        """Forget a deadline."""
        self._db.execute("DELETE FROM deadlines WHERE job = ? AND deed = ?", (job_id, deed))

    def _decide(self, job: Job) -> Rule:
        number, found = None, NOTHING
        for place, rule in enumerate(self.script):
            if rule.matches(job.title) and (not rule.times or self._met(place, rule) < rule.times):
                number, found = place, rule
                break
        self._db.execute("INSERT INTO fates VALUES (?, ?, ?)", (job.id, number, _text(found)))
        return found

    def _met(self, number: int, rule: Rule) -> int:
        query = "SELECT count(*) FROM fates WHERE number = ? AND rule = ?"
        return int(self._db.execute(query, (number, _text(rule))).fetchone()[0])


def _text(rule: Rule) -> str:
    return json.dumps(asdict(rule))
