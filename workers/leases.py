"""Leases: what this process holds stays held for as long as it works on it and lives, and no longer."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaign.store import TileStore
    from campaign.tile import Tile

log = logging.getLogger(__name__)

LONGEST = 1800.0
"""Seconds after which a step counts as hung: its lease is left to end, and another worker takes over."""


@dataclass(frozen=True)
class _Lease:
    key: str
    token: str
    member: str
    """`campaign/tile`, empty for a tracker."""
    until: float
    """Monotonic time after which it is not renewed any more."""


class Leases:
    """The leases of one process, renewed three times in each by a thread of its own."""

    def __init__(self, store: TileStore, seconds: float) -> None:
        self.seconds = seconds
        self._store = store
        self._renew = store.redis.register_script(resources.files("workers").joinpath("renew.lua").read_text("utf-8"))
        self._held: set[_Lease] = set()
        self._lock = threading.Lock()
        self._keeper: threading.Thread | None = None

    @contextmanager
    def tile(self, tile: Tile) -> Iterator[None]:
        """Keep the lease of a claimed tile while the block runs."""
        key = self._store.key("c", tile.campaign, "t", tile.id)
        with self._keeping(_Lease(key, tile.holder, tile.key, time.monotonic() + LONGEST)):
            yield

    @contextmanager
    def tracker(self, key: str, token: str) -> Iterator[None]:
        """Keep the tracker's lease at `key` while the block runs."""
        with self._keeping(_Lease(key, token, "", time.monotonic() + LONGEST)):
            yield

    @contextmanager
    def _keeping(self, lease: _Lease) -> Iterator[None]:
        with self._lock:
            self._held.add(lease)
            if self._keeper is None or not self._keeper.is_alive():
                self._keeper = threading.Thread(target=self._keep, name="leases", daemon=True)
                self._keeper.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(lease)

    def _keep(self) -> None:
        while True:
            time.sleep(self.seconds / 3)
            with self._lock:
                held = [lease for lease in self._held if time.monotonic() < lease.until]
            try:
                for lease in held:
                    arguments = [self._store.namespace, lease.token, self.seconds, lease.member]
                    self._renew(keys=[lease.key], args=arguments)
            except Exception as error:  # noqa: BLE001  (whatever it was, the next turn may go well)
                log.warning("leases are not renewed: %s", error)
