"""Pauses: a back-end that wants to be left alone, or does not answer, is left alone by all workers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from campaign.store import TileStore

OUTAGES_BEFORE_PAUSE = 3
"""How often in a row a back-end may not answer before it is paused: one lost answer is no outage."""

LONGEST_OUTAGE_PAUSE = 300.0
"""Seconds between two tries of a back-end that does not answer."""

LOOK_AGAIN_AFTER = 60.0
"""Seconds after which a worker looks again at a back-end that the user stopped."""

LEARNED_FOR = 600.0
"""Seconds for which it is remembered how many jobs a back-end turned out to take."""

STARTS, EVERYTHING = "starts", "everything"
"""What waits while a back-end is paused: only new jobs, or each request."""


class Pauses:
    """The pauses of all back-ends of a fleet."""

    def __init__(self, store: TileStore) -> None:
        self._store = store
        self._redis: Any = store.redis

    def pause(self, backend: str, seconds: float, reason: str, *, what: str = EVERYTHING, ramp: bool = False) -> None:
        """Send nothing to `backend` for `seconds`; a longer pause that is there already stays.

        Args:
            backend: its name.
            seconds: for how long.
            reason: why, for the user.
            what: `STARTS` or `EVERYTHING`.
            ramp: whether requests come back slowly afterwards.
        """
        key, until = self._key(backend), self._store.now() + seconds
        if float(self._redis.hget(key, "paused_until") or 0) < until:
            fields = {"paused_until": until, "paused_reason": reason, "paused_for": what}
            self._redis.hset(key, mapping=fields | ({"ramp_from": until} if ramp else {}))

    def paused_for(self, backend: str, *, starting: bool = True) -> float:
        """Seconds until the pause of `backend` ends; 0 when there is none.

        Args:
            backend: its name.
            starting: whether it is to be asked for more work; some pauses hold back only that.
        """
        found = self._redis.hmget(self._key(backend), "paused_until", "paused_for", "stopped")
        until, what, stopped = (value.decode() if value else "" for value in found)
        left = max(0.0, float(until) - self._store.now()) if until and (starting or what != STARTS) else 0.0
        return max(left, LOOK_AGAIN_AFTER) if starting and stopped else left

    def outage(self, backend: str, reason: str, retry_after: float | None = None) -> float:
        """Note that `backend` did not answer; pauses it from the third time in a row on, longer each time.

        Returns:
            For how many seconds; 0 if it is not paused.
        """
        times = int(self._redis.hincrby(self._key(backend), "outages", 1)) - OUTAGES_BEFORE_PAUSE
        if times < 0:
            return 0.0
        seconds = retry_after or float(min(LONGEST_OUTAGE_PAUSE, 5 * 2**times))
        self.pause(backend, seconds, reason, ramp=True)
        return seconds

    def answered(self, backend: str) -> None:
        """Note that `backend` answers as it should."""
        self._redis.hdel(self._key(backend), "outages", "trouble")

    def trouble(self, backend: str, message: str) -> None:
        """Keep what went wrong at the last look at the jobs of `backend`, for the user to see."""
        self._redis.hset(self._key(backend), "trouble", message)

    def full(self, backend: str, jobs: int, seconds: float, reason: str) -> None:
        """Note that `backend` takes no more than the `jobs` it has; the next is tried when one ends, or in `seconds`."""
        if jobs:
            learned = {"learned_jobs": jobs, "learned_until": self._store.now() + LEARNED_FOR}
            self._redis.hset(self._key(backend), mapping=learned)
        self.pause(backend, seconds, reason, what=STARTS)
        self._redis.hset(self._key(backend), "full", 1)

    def job_ended(self, backend: str) -> None:
        """Note that `backend` has room for one more job: it is not full any more."""
        if self._redis.hdel(self._key(backend), "full"):
            self._redis.hdel(self._key(backend), "paused_until", "paused_reason", "paused_for")

    def _key(self, backend: str) -> str:
        return self._store.key("b", backend)
