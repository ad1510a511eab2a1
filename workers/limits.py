"""What a back-end allows, shared by all workers through Redis: room, pauses, who tracks it, and who holds which tile."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

from campaign.tile import Tile, TileStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaign.store import TileStore

LOST_AFTER = 30.0
"""Seconds after which a message that nobody acted on counts as lost, while its queue is empty."""


class Limits:
    """The shared limits of all back-ends of a fleet."""

    def __init__(self, store: TileStore, lease: float) -> None:
        self.store = store
        self.lease = lease
        self._redis: Any = store.redis
        self._wake = self._redis.register_script(_script("wake.lua"))
        self._overdue = self._redis.register_script(_script("overdue.lua"))
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._keeper: threading.Thread | None = None

    def wake(self, backend: str) -> list[Tile]:
        """Give free room of `backend` to the tiles that wait first; returns them for the submit queue."""
        woken = self._wake(args=[self.store.namespace, backend, LOST_AFTER])
        return self._tiles([member.decode() for member in woken])

    def overdue(self, limit: int = 500) -> list[Tile]:
        """Tiles that somebody has to look at again now; each is put off by `LOST_AFTER`."""
        found = self._overdue(args=[self.store.namespace, LOST_AFTER, limit])
        return self._tiles([member.decode() for member in found])

    def on_backend(self, backend: str) -> list[Tile]:
        """The tiles that hold a slot of `backend`."""
        members = self._redis.smembers(self.store.key("b", backend, "slots"))
        return self._tiles(sorted(member.decode() for member in members))

    def drop_slot(self, backend: str, tile: Tile) -> None:
        """Take a slot from a tile that is past the need of one."""
        self._redis.srem(self.store.key("b", backend, "slots"), tile.key)

    def pause(self, backend: str, seconds: float, reason: str) -> None:
        """Submit nothing to `backend` for `seconds`; a longer pause that is there already stays."""
        key, until = self.store.key("b", backend), self.store.now() + seconds
        if float(self._redis.hget(key, "paused_until") or 0) < until:
            self._redis.hset(key, mapping={"paused_until": until, "paused_reason": reason})

    def track_due(self, backend: str, again: float) -> bool:
        """Whether `backend` is to be looked at now; if so, the next look is in `again` seconds unless set otherwise."""
        due = float(self._redis.hget(self.store.key("b", backend), "track_at") or 0) <= self.store.now()
        if due:
            self.track_in(backend, again)
        return due

    def track_in(self, backend: str, seconds: float) -> None:
        """Look at `backend` again in `seconds`."""
        self._redis.hset(self.store.key("b", backend), "track_at", self.store.now() + seconds)

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
        key, token = self.store.key("b", backend, "tracker"), uuid.uuid4().hex.encode()
        mine = bool(self._redis.set(key, token, nx=True, px=int(self.lease * 1000)))
        if mine:
            self._hold(key)
        try:
            yield mine
        finally:
            if mine:
                self._let_go(key)
                if self._redis.get(key) == token:
                    self._redis.delete(key)

    @contextmanager
    def holding(self, tile: Tile) -> Iterator[None]:
        """Renew the lease of a claimed tile for as long as the block runs and this process lives."""
        self._hold(tile.key)
        try:
            yield
        finally:
            self._let_go(tile.key)

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

    def _hold(self, key: str) -> None:
        with self._lock:
            self._held.add(key)
            if self._keeper is None or not self._keeper.is_alive():
                self._keeper = threading.Thread(target=self._keep, name="leases", daemon=True)
                self._keeper.start()

    def _let_go(self, key: str) -> None:
        with self._lock:
            self._held.discard(key)

    def _keep(self) -> None:
        """Renew all leases of this process, three times in each lease."""
        while True:
            time.sleep(self.lease / 3)
            with self._lock:
                held = list(self._held)
            if held:
                self._renew(held)

    def _renew(self, held: list[str]) -> None:
        until = self.store.now() + self.lease
        pipe = self._redis.pipeline(transaction=False)
        for key in held:
            if key.endswith(":tracker"):
                pipe.pexpire(key, int(self.lease * 1000))
            else:
                pipe.zadd(self.store.key("due"), {key: until}, xx=True)
        pipe.execute(raise_on_error=False)


def not_yet_claimed(tile: Tile) -> bool:
    """Whether the message about `tile` may still be in its queue: nobody took hold of it since it became due."""
    return not tile.holder and tile.status in {TileStatus.FINISHED, TileStatus.POSTPROCESSED}


def _script(name: str) -> str:
    return resources.files("workers").joinpath(name).read_text("utf-8")
