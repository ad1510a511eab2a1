"""What holds a campaign back, and what it has spent: by the user, its budget or its pilot."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from campaign.store import TileStore


@dataclass(frozen=True)
class Control:
    """A campaign's controls as the store has them; workers start no jobs while one of the first two says why."""

    paused: str = ""
    """Why it is paused until the user resumes it."""
    held: str = ""
    """What keeps it back for the time being: its budget, or a pilot that did not go well."""
    pilot_upto: int | None = None
    """Tiles from this place on wait for the pilot."""
    spent: float = 0.0
    """What the back-ends charged for its jobs so far (credits), as far as they say."""
    jobs_paid: int = 0
    """For how many jobs."""
    estimated: float = 0.0
    """What back-ends estimated that some jobs would cost (credits)."""
    jobs_estimated: int = 0
    """How many jobs."""

    @property
    def holds(self) -> str:
        """Why no jobs are started now; empty when they are."""
        return self.paused or self.held

    @property
    def cost_per_job(self) -> float | None:
        """Credits, from what was paid, else from what was estimated; None when nobody knows."""
        if self.jobs_paid > 0:
            return self.spent / self.jobs_paid
        return self.estimated / self.jobs_estimated if self.jobs_estimated else None


class Controls:
    """The controls of all campaigns in a store."""

    def __init__(self, store: TileStore) -> None:
        self._store = store
        self._redis: Any = store.redis

    def get(self, campaign: str) -> Control:
        """Those of one campaign."""
        raw = {name.decode(): value.decode() for name, value in self._redis.hgetall(self._key(campaign)).items()}
        read = {"spent": float, "estimated": float, "jobs_paid": int, "jobs_estimated": int, "pilot_upto": int}
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
