"""What the store's compare-and-set costs, beside plain redis-py on the same embedded Redis in the same run.

Every measurement is made once a round, in turn, so that whatever else the machine does meets all of them alike; the
medians of the rounds are compared. Prints a table, and the same as one line of JSON.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaign.store import TileStore
from campaign.tile import Tile, TileStatus
from producer.embedded_redis import embedded_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROUNDS = 5
TILES = 400
"""Tiles whose whole life is walked through in a round."""
OPERATIONS = 3000
"""Plain commands in a round."""
PIPELINE = 100
"""Commands per round trip of the pipelined ones."""
LEASE = 15.0

BACKEND = "bench"
FIELDS = {"status": "running", "attempt": "1", "backend": BACKEND, "job_id": "j-0123456789", "since": "1.000"}

LIFE: tuple[tuple[TileStatus, dict[str, Any]], ...] = (
    (TileStatus.CREATED, {"due": LEASE, "job_id": "j-0123456789"}),
    (TileStatus.QUEUED, {"started_at": 1.0}),
    (TileStatus.RUNNING, {}),
    (TileStatus.FINISHED, {"room": "free", "due": 30.0, "finished_at": 2.0}),
    (TileStatus.POSTPROCESSED, {"due": 30.0, "items": "item", "costs": 4.0}),
    (TileStatus.PUBLISHED, {"published_at": 3.0}),
)
"""What happens to a tile after a worker has claimed it: the moves of a life without failures."""


class Bench:
    """One Redis, and what is measured on it; each measurement returns how many operations it made."""

    def __init__(self, store: TileStore) -> None:
        self.store = store
        self.round = 0
        store.put_backend(BACKEND, {"url": "http://127.0.0.1", "parallel_jobs": TILES})

    def hset(self) -> int:
        """One HSET of five fields per round trip."""
        for number in range(OPERATIONS):
            self.store.redis.hset(f"plain:{number}", mapping=FIELDS)
        return OPERATIONS

    def hset_pipelined(self) -> int:
        """The same, many per round trip."""
        for start in range(0, OPERATIONS, PIPELINE):
            pipe = self.store.redis.pipeline(transaction=False)
            for number in range(start, start + PIPELINE):
                pipe.hset(f"plain:{number}", mapping=FIELDS)
            pipe.execute()
        return OPERATIONS

    def transitions(self) -> int:
        """Whole lives of tiles, each move a compare-and-set of its own."""
        for tile in self._tiles("life", TILES):
            moved = self.store.claim(
                tile, LEASE, TileStatus.SUBMITTING, room="take", backends=[BACKEND], attempt=tile.attempt + 1
            )
            for status, words in LIFE:
                moved = self.store.transition(moved, status, **words)
        return TILES * (1 + len(LIFE))

    def add_tiles(self) -> int:
        """Tiles of a new campaign."""
        return len(self._tiles("add", OPERATIONS))

    def get_many(self) -> int:
        """Reading tiles, many per round trip."""
        ids = [f"t{number}" for number in range(TILES)]
        return sum(tile is not None for tile in self.store.get_many(f"life-{self.round}", ids))

    def _tiles(self, campaign: str, number: int) -> list[Tile]:
        tiles = [Tile(f"{campaign}-{self.round}", f"t{order}", order=order) for order in range(number)]
        if self.store.add_tiles(tiles, [BACKEND]) != number:
            raise SystemExit("tiles of an earlier round are in the way")
        return tiles


def measure(bench: Bench) -> dict[str, float]:
    """Operations per second of each measurement: the median of the rounds."""
    rates: dict[str, list[float]] = {}
    for bench.round in range(ROUNDS):
        for run in (bench.hset, bench.hset_pipelined, bench.transitions, bench.add_tiles, bench.get_many):
            rates.setdefault(run.__name__, []).append(rate(run))
    return {name: statistics.median(found) for name, found in rates.items()}


def rate(run: Callable[[], int]) -> float:
    """Operations per second of `run`."""
    start = time.perf_counter()
    operations = run()
    return operations / (time.perf_counter() - start)


def report(rates: Mapping[str, float]) -> str:
    """The table."""
    lines = [
        ("HSET, one per round trip", "hset", "hset"),
        ("TileStore.transition, one per round trip", "transitions", "hset"),
        (f"HSET, {PIPELINE} per round trip", "hset_pipelined", "hset_pipelined"),
        ("TileStore.add_tiles", "add_tiles", "hset_pipelined"),
        ("TileStore.get_many", "get_many", "hset_pipelined"),
    ]
    rows = [f"{title:42} {rates[name]:>9,.0f}/s   {rates[name] / rates[beside]:5.2f}" for title, name, beside in lines]
    return "\n".join([f"{'':42} {'operations':>11}   of plain redis-py", *rows])


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, embedded_redis(Path(folder)) as url:
        rates = measure(Bench(TileStore.connect(url, "bench")))
    print(report(rates))
    ratios = {
        "transition_of_hset": rates["transitions"] / rates["hset"],
        "add_tiles_of_hset_pipelined": rates["add_tiles"] / rates["hset_pipelined"],
        "get_many_of_hset_pipelined": rates["get_many"] / rates["hset_pipelined"],
    }
    per_second = {name: round(value) for name, value in rates.items()}
    print(json.dumps({"benchmark": "store", "per_second": per_second, **{k: round(v, 3) for k, v in ratios.items()}}))


if __name__ == "__main__":
    main()
