"""What a back-end allows, shared by all workers through Redis: room, pauses, and who looks at its jobs when."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

from workers.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaign.store import TileStore
    from campaign.tile import Tile

LOST_AFTER = 30.0
"""Seconds after which a message that nobody acted on counts as lost, while its queue is empty."""

OUTAGES_BEFORE_PAUSE = 3
"""How often in a row a back-end may not answer before it is paused: one lost answer is no outage."""

LONGEST_OUTAGE_PAUSE = 300.0
"""Seconds between two tries of a back-end that does not answer."""

_ONLY_STARTS_WAIT = b"payment"

_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Limits:
    """The shared limits of all back-ends of a fleet."""

    def __init__(self, store: TileStore, lease: float) -> None:
        self.store = store
        self.leases = Leases(store, lease)
        self._redis: Any = store.redis
        self._wake = self._redis.register_script(_script("wake.lua"))
        self._overdue = self._redis.register_script(_script("overdue.lua"))
        self._release = self._redis.register_script(_RELEASE)

    def wake(self, backend: str) -> list[Tile]:
        """Give free room of `backend` to the tiles that wait first; returns them for the submit queue."""
        woken = self._wake(args=[self.store.namespace, backend, LOST_AFTER])
        return self._tiles([member.decode() for member in woken])

    def overdue(self, limit: int = 500) -> list[tuple[Tile, bool]]:
        """Tiles that somebody has to look at again now, and whether a worker held each until its lease ended.

        Nobody holds them any more, and each is put off by `LOST_AFTER`.
        """
        found = self._overdue(args=[self.store.namespace, LOST_AFTER, limit])
        tiles = self._tiles([member.decode() for member in found[::2]])
        held = {member.decode() for member, was_held in zip(found[::2], found[1::2], strict=True) if was_held}
        return [(tile, tile.key in held) for tile in tiles]

    def on_backend(self, backend: str) -> list[Tile]:
        """The tiles that hold a slot of `backend`."""
        members = self._redis.smembers(self.store.key("b", backend, "slots"))
        return self._tiles(sorted(member.decode() for member in members))

    def drop_slot(self, backend: str, tile: Tile) -> None:
        """Take a slot from a tile that is past the need of one."""
        self._redis.srem(self.store.key("b", backend, "slots"), tile.key)

    def pause(self, backend: str, seconds: float, reason: str) -> None:
        """Send nothing to `backend` for `seconds`; a longer pause that is there already stays."""
        key, until = self.store.key("b", backend), self.store.now() + seconds
        if float(self._redis.hget(key, "paused_until") or 0) < until:
            self._redis.hset(key, mapping={"paused_until": until, "paused_reason": reason})

    def paused_for(self, backend: str, *, starting: bool = True) -> float:
        """Seconds until the pause of `backend` ends; 0 when there is none.

        Args:
            backend: its name.
            starting: whether it is to be asked for more work; where credits are missing, only that is to wait.
        """
        until, reason = self._redis.hmget(self.store.key("b", backend), "paused_until", "paused_reason")
        if not until or (not starting and (reason or b"").startswith(_ONLY_STARTS_WAIT)):
            return 0.0
        return max(0.0, float(until) - self.store.now())

    def outage(self, backend: str, reason: str) -> float:
        """Note that `backend` did not answer; pauses it from the third time in a row on, longer each time.

        Returns:
            For how many seconds; 0 if it is not paused.
        """
        key = self.store.key("b", backend)
        times = int(self._redis.hincrby(key, "outages", 1)) - OUTAGES_BEFORE_PAUSE
        if times < 0:
            return 0.0
        seconds = float(min(LONGEST_OUTAGE_PAUSE, 5 * 2**times))
        self.pause(backend, seconds, reason)
        return seconds

    def answered(self, backend: str) -> None:
        """Note that `backend` answers as it should."""
        self._redis.hdel(self.store.key("b", backend), "outages", "trouble")

    def trouble(self, backend: str, message: str) -> None:
        """Keep what went wrong at the last look at the jobs of `backend`, for the user to see."""
        self._redis.hset(self.store.key("b", backend), "trouble", message)

    def track_due(self, backend: str, again: float) -> bool:
        """Whether `backend` is to be looked at now; if so, the next look is in `again` seconds unless set otherwise."""
        due = float(self._redis.hget(self.store.key("b", backend), "track_at") or 0) <= self.store.now()
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

    def _tiles(self, members: list[str]) -> list[Tile]:
        tiles: dict[str, Tile | None] = {}
        by_campaign: dict[str, list[str]] = {}
        for member in members:
            campaign, _, tile_id = member.partition("/")
            by_campaign.setdefault(campaign, []).append(tile_id)
        for campaign, ids in by_campaign.items():
            found = self.store.get_many(campaign, ids)
            tiles |= {f"{campaign}/{tile_id}": tile for tile_id, tile in zip(ids, found, strict=True)}
        return [tile for member in members if (tile := tiles[member]) is not None]


def _script(name: str) -> str:
    return resources.files("workers").joinpath(name).read_text("utf-8")
