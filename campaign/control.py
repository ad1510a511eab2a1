"""What holds a campaign back, and what it has spent: by the user, its budget or its pilot."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign.store import TileStore


@dataclass(frozen=True)
class Control:
    """A campaign's controls as the store has them; `room.lua` starts no jobs that they hold back."""

    paused: str = ""
    """Why it is paused until the user resumes it."""
    pilot: tuple[str, ...] = ()
    """Ids of the tiles that run before all others."""
    pilot_upto: int | None = None
    """Tiles from this place on wait for the pilot."""
    pilot_failed: int = 0
    """How many tiles of the pilot ended without being published."""
    budget: float | None = None
    """Credits that may be spent."""
    spent: float = 0.0
    """What the back-ends charged for its jobs so far (credits), as far as they say."""
    jobs_paid: int = 0
    """For how many jobs."""
    estimated: float = 0.0
    """What back-ends estimated that some jobs would cost (credits)."""
    jobs_estimated: int = 0
    """How many jobs."""

    @property
    def cost_per_job(self) -> float | None:
        """Credits, from what was paid, else from what was estimated; None when nobody knows."""
        if self.jobs_paid > 0:
            return self.spent / self.jobs_paid
        return self.estimated / self.jobs_estimated if self.jobs_estimated else None

    def may_spend(self, unpaid: int) -> bool:
        """Whether the budget has room for one more job, while `unpaid` jobs are started and not charged."""
        if self.budget is None:
            return True
        return self.spent < self.budget and self.spent + (self.cost_per_job or 0.0) * (unpaid + 1) <= self.budget

    def holds(self, unpaid: int = 0) -> str:
        """Why no more tiles are begun now, for the user; empty when they are."""
        if self.paused:
            return f"paused: {self.paused}"
        if not self.may_spend(unpaid):
            about = "" if self.cost_per_job is None else f", a job costs about {self.cost_per_job:.3g}"
            return f"budget: {self.spent:g} of {self.budget:g} credits are spent{about}"
        if self.pilot_failed:
            return f"pilot: {self.pilot_failed} of its {len(self.pilot)} tiles were not published"
        return ""


_BY_CODE = ("user_code", "backend")
"""How the reasons begin for which workers pause a campaign: its first tiles all failed in the same way."""


def is_mended_by_a_new_file(control: Control) -> bool:
    """Whether a campaign was paused because of what its file says."""
    return control.paused.startswith(_BY_CODE)


class Controls:
    """The controls of all campaigns in a store."""

    def __init__(self, store: TileStore) -> None:
        self._store = store
        self._redis: Any = store.redis

    def get(self, campaign: str) -> Control:
        """Those of one campaign."""
        raw = {name.decode(): value.decode() for name, value in self._redis.hgetall(self._key(campaign)).items()}
        read: dict[str, Callable[[str], Any]] = {"spent": float, "estimated": float, "budget": float, "pilot": _ids}
        read |= dict.fromkeys(("jobs_paid", "jobs_estimated", "pilot_upto", "pilot_failed"), int)
        known = {field.name for field in fields(Control)}
        return Control(**{name: read.get(name, str)(value) for name, value in raw.items() if name in known})

    def put(self, campaign: str, **changes: str | float | None) -> None:
        """Change some; None and empty text remove one."""
        key = self._key(campaign)
        pipe = self._redis.pipeline()
        for name, value in changes.items():
            if value is None or value == "":
                pipe.hdel(key, name)
            else:
                pipe.hset(key, name, value)
        pipe.execute()

    def count_error(self, campaign: str, fingerprint: str) -> int:
        """Count an exception of the user's code; returns how often it came, this time included."""
        return int(self._redis.hincrby(self._key(campaign), f"same:{fingerprint}", 1))

    def forget_errors(self, campaign: str) -> None:
        """Begin counting anew."""
        key = self._key(campaign)
        names = [name for name in self._redis.hkeys(key) if name.startswith(b"same:")]
        if names:
            self._redis.hdel(key, *names)

    def add_estimate(self, campaign: str, costs: float) -> None:
        """Keep what a back-end estimated for one job (credits)."""
        pipe = self._redis.pipeline()
        pipe.hincrbyfloat(self._key(campaign), "estimated", costs)
        pipe.hincrby(self._key(campaign), "jobs_estimated", 1)
        pipe.execute()

    def _key(self, campaign: str) -> str:
        return self._store.key("c", campaign, "control")


def _ids(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))
