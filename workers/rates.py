"""Rates: how many requests all workers together may send to a back-end."""

from __future__ import annotations

import time
from importlib import resources
from typing import TYPE_CHECKING

from workers.failures import Throttled

if TYPE_CHECKING:
    from campaign.store import TileStore

LONGEST_WAIT = 5.0
"""Seconds that a worker waits for the time of its request; beyond, the tile waits in the store instead."""


class Rates:
    """The requests of all workers of a fleet, spread over time."""

    def __init__(self, store: TileStore) -> None:
        self._namespace = store.namespace
        self._reserve = store.redis.register_script(
            resources.files("workers").joinpath("request.lua").read_text("utf-8")
        )

    def wait(self, backend: str) -> None:
        """Wait until a request may be sent to `backend`.

        Raises:
            Throttled: that would take too long; says how long.
        """
        seconds = float(self._reserve(args=[self._namespace, backend, LONGEST_WAIT]))
        if seconds < 0:
            raise Throttled(-seconds)
        if seconds:
            time.sleep(seconds)
