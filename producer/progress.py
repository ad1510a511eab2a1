"""Progress of a campaign in the terminal: a bar of all statuses, throughput and time left; plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from campaign.tile import TERMINAL, TileStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from campaign.store import BackendState, CampaignMeta, TileStore

EVERY = 0.5
"""Seconds between two looks at the store."""

LINE_EVERY = 5.0
"""Seconds between two lines where the output is not a terminal."""

_WINDOW = 120.0
"""Seconds over which throughput is measured."""

_BAR = 60

STYLES: Mapping[TileStatus, str] = {
    TileStatus.NOT_STARTED: "bright_black",
    TileStatus.SUBMITTING: "khaki1",
    TileStatus.CREATED: "gold1",
    TileStatus.QUEUED: "light_steel_blue",
    TileStatus.RUNNING: "blue",
    TileStatus.FINISHED: "green1",
    TileStatus.POSTPROCESSED: "green3",
    TileStatus.PUBLISHED: "green4",
    TileStatus.FAILED: "red3",
    TileStatus.CANCELED: "grey50",
    TileStatus.SKIPPED: "dark_orange",
}
"""The colours of the status map, as near as a terminal has them."""


@dataclass
class Throughput:
    """Tiles done per second over the last minutes, and what that means for those that are left."""

    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, now: float, done: int) -> None:
        """Note that `done` tiles were done at `now` (seconds)."""
        self.samples.append((now, done))
        while len(self.samples) > 2 and now - self.samples[0][0] > _WINDOW:  # noqa: PLR2004  (a rate takes two)
            self.samples.popleft()

    @property
    def per_second(self) -> float | None:
        """None as long as nothing was done."""
        if not self.samples:
            return None
        (start, before), (end, after) = self.samples[0], self.samples[-1]
        return (after - before) / (end - start) if end > start and after > before else None

    def time_left(self, left: int) -> timedelta | None:
        """Time until `left` more tiles are done at this rate, None if there is no rate yet."""
        rate = self.per_second
        return timedelta(seconds=round(left / rate)) if rate else None


def done(counts: Mapping[TileStatus, int]) -> int:
    """How many tiles no worker moves on any more."""
    return sum(count for status, count in counts.items() if status in TERMINAL)


def at_rest(store: TileStore, campaign: str, counts: Mapping[TileStatus, int]) -> bool:
    """Whether the campaign has ended: no tile is on its way, and the catalog knows all that are published."""
    published = counts.get(TileStatus.PUBLISHED, 0)
    moving = any(status not in TERMINAL for status in counts)
    return not moving and int(store.catalog_state(campaign)["published"]) == published


def watch(store: TileStore, meta: CampaignMeta, each_time: Callable[[], None], console: Console) -> None:
    """Show the campaign until it has ended, calling `each_time` at every look."""
    throughput = Throughput()
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            for counts in _looks(store, meta, throughput, each_time):
                backends = [store.backend(name) for name in meta.backends]
                live.update(render(meta, counts, throughput, backends))
        return
    last, last_line = 0.0, ""
    for counts in _looks(store, meta, throughput, each_time):
        line = plain(meta, counts, throughput)
        if line != last_line and time.monotonic() - last >= LINE_EVERY:
            console.print(line, highlight=False, soft_wrap=True)
            last, last_line = time.monotonic(), line


def _looks(
    store: TileStore, meta: CampaignMeta, throughput: Throughput, each_time: Callable[[], None]
) -> Iterator[dict[TileStatus, int]]:
    while True:
        counts = store.counts(meta.name)
        throughput.add(time.monotonic(), done(counts))
        yield counts
        if at_rest(store, meta.name, counts):
            return
        each_time()
        time.sleep(EVERY)


def render(
    meta: CampaignMeta, counts: Mapping[TileStatus, int], throughput: Throughput, backends: list[BackendState]
) -> RenderableType:
    """The campaign as a block for the terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_row(
        *(Text(f"{status} {counts[status]}", style=STYLES[status]) for status in TileStatus if counts.get(status))
    )
    rooms = [
        Text(f"{state.name}: {state.used}/{state.parallel_jobs} jobs", style="bold")
        + Text(f"  paused: {state.paused_reason}" if state.paused else "", style="red3")
        for state in backends
    ]
    head = Text.assemble((meta.name, "bold"), f"  {done(counts)}/{meta.total} tiles  {_pace(counts, meta, throughput)}")
    return Group(head, bar(counts, meta.total), table, *rooms)


def bar(counts: Mapping[TileStatus, int], total: int, width: int = _BAR) -> Text:
    """One bar of `width` cells in the colours of the statuses, the end of a tile's life first."""
    text, before, cells = Text(), 0, 0
    for status in sorted(counts, key=list(TileStatus).index, reverse=True):
        before += counts[status]
        upto = round(width * before / max(total, 1))
        text.append("━" * (upto - cells), style=STYLES[status])
        cells = upto
    return text


def plain(meta: CampaignMeta, counts: Mapping[TileStatus, int], throughput: Throughput) -> str:
    """The campaign on one line."""
    statuses = ", ".join(f"{counts[status]} {status}" for status in TileStatus if counts.get(status))
    return f"{meta.name}: {done(counts)}/{meta.total} done ({statuses}) {_pace(counts, meta, throughput)}".rstrip()


def _pace(counts: Mapping[TileStatus, int], meta: CampaignMeta, throughput: Throughput) -> str:
    rate = throughput.per_second
    left = throughput.time_left(meta.total - done(counts))
    return f"{rate * 60:.1f} tiles/min, {left} left" if rate and left is not None else ""
