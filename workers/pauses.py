"""Pauses: a back-end that wants to be left alone, or does not answer, is left alone by all workers at once."""

from __future__ import annotations

from importlib import resources
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

_JOB_ENDED = """
if redis.call('HDEL', KEYS[1], 'full') == 1 then redis.call('HDEL', KEYS[1], 'paused_until', 'paused_reason') end
"""


class Pauses:
    """The pauses of all back-ends of a fleet."""

    def __init__(self, store: TileStore) -> None:
        self._store = store
        self._redis: Any = store.redis
        self._pause = self._redis.register_script(resources.files("workers").joinpath("pause.lua").read_text("utf-8"))
        self._job_ended = self._redis.register_script(_JOB_ENDED)

    def pause(self, backend: str, seconds: float, reason: str, *, what: str = EVERYTHING, ramp: bool = False) -> None:
        """Send nothing to `backend` for `seconds`; a longer pause that is there already stays.

        Args:
            backend: its name.
            seconds: for how long.
            reason: why, for the user.
            what: `STARTS` or `EVERYTHING`.
            ramp: whether requests come back slowly afterwards.
        """
        until = self._store.now() + seconds
        self._pause(keys=[self._key(backend)], args=[until, reason, what, "1" if ramp else "", ""])

    def paused_for(self, backend: str, *, starting: bool = True) -> float:
        """Seconds until the pause of `backend` ends; 0 when there is none.

        Args:
            backend: its name.
            starting: whether it is to be asked for more work; some pauses hold back only that.
        """
        paused, silent, stopped = self._redis.hmget(self._key(backend), "paused_until", "silent_until", "stopped")
        until = max(float(silent or 0), float(paused or 0) if starting else 0.0)
        left = max(0.0, until - self._store.now())
        return max(left, LOOK_AGAIN_AFTER) if starting and stopped else left

    def outage(self, backend: str, reason: str, retry_after: float | None = None) -> float:
        """Note that `backend` did not answer; pauses it from the third time in a row on, longer each time.

        Returns:
            For how many seconds; 0 if it is not paused.
        """
        left = self.paused_for(backend, starting=False)
        if left:  # others noticed it at the same time
            return left
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
        until = self._store.now() + seconds
        self._pause(keys=[self._key(backend)], args=[until, reason, STARTS, "", "1"])

    def job_ended(self, backend: str) -> None:
        """Note that `backend` has room for one more job: it is not full any more."""
        self._job_ended(keys=[self._key(backend)])

    def _key(self, backend: str) -> str:
        return self._store.key("b", backend)
