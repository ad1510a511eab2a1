"""Room on back-ends, shared by all workers through Redis: who gets it, and who looks at the jobs that are there when."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

from campaign.store import read_script
from workers.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaign.store import TileStore
    from campaign.tile import Tile

LOST_AFTER = 30.0
"""Seconds after which a message that nobody acted on counts as lost, while its queue is empty."""

ESTIMATE_EVERY = 10
"""Seconds between two questions for an estimate."""

ASK_AGAIN_AFTER = 3600
"""Seconds after which a back-end that had no estimates is asked for one again."""

_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Limits:
    """The shared limits of all back-ends of a fleet."""

    def __init__(self, store: TileStore, lease: float) -> None:
        self.store = store
        self.leases = Leases(store, lease)
        self._redis: Any = store.redis
        self._wake = self._redis.register_script(read_script("room.lua") + _script("wake.lua"))
        self._overdue = self._redis.register_script(_script("overdue.lua"))
        self._release = self._redis.register_script(_RELEASE)

    def wake(self, backend: str) -> list[Tile]:
        """Give free room of `backend` to those that wait first; returns them for the submit queue."""
        woken = self._wake(args=[self.store.namespace, backend, LOST_AFTER])
        return self.store.tiles_of([member.decode() for member in woken])

    def overdue(self, limit: int = 500) -> list[tuple[Tile, bool]]:
        """Tiles that somebody has to look at again now, and whether a worker held each until its lease ended.

        Nobody holds them any more, and each is put off by `LOST_AFTER`.
        """
        found = self._overdue(args=[self.store.namespace, LOST_AFTER, limit])
        tiles = self.store.tiles_of([member.decode() for member in found[::2]])
        held = {member.decode() for member, was_held in zip(found[::2], found[1::2], strict=True) if was_held}
        return [(tile, tile.key in held) for tile in tiles]

    def drop_slot(self, backend: str, tile: Tile) -> None:
        """Take its place from a tile that is past the need of one."""
        for taken in ("slots", "started"):
            self._redis.srem(self.store.key("b", backend, taken), tile.key)
        self._redis.zrem(self.store.key("b", backend, "ready"), tile.key)

    def may_ask_estimate(self, backend: str) -> bool:
        """Whether the caller may ask `backend` what a job will cost: one at a time, and not one that has no estimates."""
        key = self.store.key("b", backend, "estimate")
        return bool(self._redis.set(key, 1, nx=True, ex=ESTIMATE_EVERY))

    def no_estimates(self, backend: str) -> None:
        """Note that `backend` did not say what a job will cost; it is not asked again for a while."""
        self._redis.set(self.store.key("b", backend, "estimate"), 0, ex=ASK_AGAIN_AFTER)

    def track_due(self, backend: str, again: float, early: float = 0.0) -> bool:
        """Whether `backend` is to be looked at now; if so, the next look is in `again` seconds unless set otherwise.

        Args:
            backend: its name.
            again: seconds until the next look.
            early: seconds that a look may come before its time.
        """
        due = float(self._redis.hget(self.store.key("b", backend), "track_at") or 0) <= self.store.now() + early
        if due:
            self.track_in(backend, again)
        return due

    def track_in(self, backend: str, seconds: float) -> None:
        """Look at `backend` again in `seconds`."""
        self._redis.hset(self.store.key("b", backend), "track_at", self.store.now() + seconds)

    def track_soon(self, backend: str, seconds: float) -> None:
        """Look at `backend` again in `seconds` at the latest: something is to be seen there by then."""
        planned = float(self._redis.hget(self.store.key("b", backend), "track_at") or 0)
        if planned > self.store.now() + seconds:
            self.track_in(backend, seconds)

    def quiet_for(self, backend: str, *, moved: bool) -> int:
        """How many looks in a row at `backend` saw nothing move, this one included."""
        key = self.store.key("b", backend)
        if moved:
            self._redis.hset(key, "quiet", 0)
            return 0
        return int(self._redis.hincrby(key, "quiet", 1))

    def job_took(self, backend: str, seconds: float) -> None:
        """Keep how long a job of `backend` took from its start to its end, beside those before it."""
        key = self.store.key("b", backend)
        before = self._redis.hget(key, "job_seconds")
        typical = seconds if before is None else 0.8 * float(before) + 0.2 * seconds
        self._redis.hset(key, "job_seconds", typical)

    def job_seconds(self, backend: str) -> float | None:
        """How long jobs of `backend` typically take from their start to their end; None before the first ended."""
        found = self._redis.hget(self.store.key("b", backend), "job_seconds")
        return None if found is None else float(found)

    @contextmanager
    def tracking(self, backend: str) -> Iterator[bool]:
        """Be the one tracker of `backend`; yields False when another worker is."""
        key, token = self.store.key("b", backend, "tracker"), uuid.uuid4().hex
        if not self._redis.set(key, token, nx=True, px=int(self.leases.seconds * 1000)):
            yield False
            return
        try:
            with self.leases.tracker(key, token):
                yield True
        finally:
            self._release(keys=[key], args=[token])


def _script(name: str) -> str:
    return resources.files("workers").joinpath(name).read_text("utf-8")
