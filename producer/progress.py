"""A campaign in the terminal: a bar of all statuses, throughput and time left, back-ends; plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from campaign.errors import FleetError, StoreUnavailable
from campaign.tile import TERMINAL, TileStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console

    from campaign.meta import BackendState, CampaignMeta
    from campaign.store import TileStore

EVERY = 0.5
"""Seconds between two looks at the store."""

LINE_EVERY = 5.0
"""Seconds between two lines where the output is not a terminal."""

AUTH_FOR = 120.0
"""Seconds after which credentials that no back-end takes do not seem to mend themselves."""

STANDS_AFTER = 5.0
"""Seconds without a change after which a campaign that is held back counts as standing."""

_BETWEEN_PAUSES = 30.0

RESTARTS = 5
"""How often in a row an embedded Redis may fail to start."""

CATALOG_ERRORS = 3
"""How often in a row the catalog may fail to be brought up to date."""

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


_MOVING = (
    *(TileStatus.SUBMITTING, TileStatus.QUEUED, TileStatus.RUNNING, TileStatus.FINISHED, TileStatus.POSTPROCESSED),
)
"""Statuses of tiles that go on even while no more are begun."""

_UNPAID = (TileStatus.QUEUED, TileStatus.RUNNING, TileStatus.FINISHED)


def at_rest(store: TileStore, campaign: str, counts: Mapping[TileStatus, int]) -> bool:
    """Whether the campaign has ended: no tile is on its way, and the catalog knows all that are published."""
    published = counts.get(TileStatus.PUBLISHED, 0)
    moving = any(status not in TERMINAL for status in counts)
    return not moving and int(store.catalog_state(campaign)["published"]) == published


def held(store: TileStore, campaign: str, counts: Mapping[TileStatus, int]) -> str:
    """Why no more tiles of the campaign are begun until the user says so; empty when they are, or when all are."""
    if all(status in TERMINAL for status in counts):
        return ""
    return store.control(campaign).holds(sum(counts.get(status, 0) for status in _UNPAID))


@dataclass(frozen=True)
class Look:
    """A campaign at one moment."""

    counts: Mapping[TileStatus, int]
    backends: list[BackendState]
    error: str
    """Why the catalog cannot be brought up to date; empty when it can."""
    held: str
    """Why no more tiles are begun until the user says so."""
    rests: bool
    """Whether nothing moves any more."""


@dataclass
class Watch:
    """What is seen of a campaign over time."""

    store: TileStore
    meta: CampaignMeta
    say: Callable[[str], None]
    """Takes a line about something that happened."""
    throughput: Throughput = field(default_factory=Throughput)
    told: set[str] = field(default_factory=set)
    """What was said since all was well last."""
    restarts: int = 0
    """How often in a row `each_time` could not get Redis back."""
    last_counts: dict[TileStatus, int] = field(default_factory=dict)
    stands_since: float = field(default_factory=time.monotonic)
    """When the counts were last seen to change, on the clock of `time.monotonic`."""
    auth_since: float | None = None
    """Since when every back-end refuses the credentials, on the clock of `time.monotonic`."""

    def looks(self, each_time: Callable[[], None]) -> Iterator[Look]:
        """One look after the other until the campaign rests, with `each_time` called between them."""
        while True:
            try:
                look = self._look()
            except StoreUnavailable as error:
                self._tell(f"{error}; waiting for it")
            else:
                if look.error:
                    self._tell(f"the catalog is not up to date: {look.error}")
                else:
                    self.told.clear()
                yield look
                if look.rests:
                    return
            self._look_after(each_time)
            time.sleep(EVERY)

    def _look(self) -> Look:
        """The campaign now.

        Raises:
            FleetError: its catalog cannot be brought up to date.
        """
        store, meta = self.store, self.meta
        counts = store.counts(meta.name)
        catalog = store.catalog_state(meta.name)
        error = str(catalog.get("error", "")) if catalog.get("errors") else ""
        if error and catalog["errors"] >= CATALOG_ERRORS:
            raise FleetError(f"the catalog of {meta.name} cannot be brought up to date: {error}")
        self.throughput.add(time.monotonic(), done(counts))
        backends = [store.backend(name) for name in meta.backends]
        why = held(store, meta.name, counts)
        rests = at_rest(store, meta.name, counts) or (bool(why) and self._stands(counts))
        return Look(counts, backends, error, why, rests)

    def _stands(self, counts: Mapping[TileStatus, int]) -> bool:
        """Whether a campaign that is held back has not moved for a while, and has nothing left to do."""
        now = time.monotonic()
        if counts != self.last_counts or any(counts.get(status) for status in _MOVING):
            self.last_counts, self.stands_since = dict(counts), now
        catalog = self.store.catalog_state(self.meta.name)["published"]
        return now - self.stands_since > STANDS_AFTER and int(catalog) == counts.get(TileStatus.PUBLISHED, 0)

    def _tell(self, line: str) -> None:
        if line not in self.told:
            self.say(line)
        self.told.add(line)

    def _look_after(self, each_time: Callable[[], None]) -> None:
        try:
            each_time()
        except StoreUnavailable as error:
            self.restarts += 1
            if self.restarts >= RESTARTS:
                raise
            self._tell(str(error))
        else:
            self.restarts = 0

    def advice(self, backends: list[BackendState]) -> str:
        """What the user has to do for the campaign to go on; empty while there is nothing."""
        now = time.monotonic()
        if not backends or not all(_refuses(state) for state in backends):
            self.auth_since = None
            return ""
        self.auth_since = self.auth_since or now
        if now - self.auth_since < AUTH_FOR:
            return ""
        return "no back-end takes the credentials: stop with Ctrl-C, set the variables named above, run again"


def _refuses(state: BackendState) -> bool:
    """Whether a back-end takes no credentials; between two pauses it is tried again."""
    return state.paused_reason.startswith("auth") and state.paused_until > time.time() - _BETWEEN_PAUSES


def watch(store: TileStore, meta: CampaignMeta, each_time: Callable[[], None], console: Console) -> None:
    """Show the campaign until it has ended, calling `each_time` at every look.

    Raises:
        FleetError: its catalog cannot be brought up to date, or `each_time` raised it.
    """
    seen = Watch(store, meta, lambda line: console.print(line, highlight=False, soft_wrap=True, markup=False))
    if console.is_terminal:
        _on_terminal(seen, each_time, console)
    else:
        _as_lines(seen, each_time)


def _on_terminal(seen: Watch, each_time: Callable[[], None], console: Console) -> None:
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        for look in seen.looks(each_time):
            block = render(seen.meta, look.counts, seen.throughput, look.backends)
            advice = "; ".join(filter(None, [look.held, seen.advice(look.backends)]))
            live.update(Group(block, Text(advice, style="red3")) if advice else block)


def _as_lines(seen: Watch, each_time: Callable[[], None]) -> None:
    last, last_line = 0.0, ""
    for look in seen.looks(each_time):
        line = plain(seen.meta, look.counts, seen.throughput, look.backends)
        line = "; ".join(filter(None, [line, look.held, seen.advice(look.backends)]))
        if line != last_line and time.monotonic() - last >= LINE_EVERY:
            seen.say(line)
            last, last_line = time.monotonic(), line


def render(
    meta: CampaignMeta, counts: Mapping[TileStatus, int], throughput: Throughput, backends: Sequence[BackendState]
) -> RenderableType:
    """The campaign as a block for the terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_row(
        *(Text(f"{status} {counts[status]}", style=STYLES[status]) for status in TileStatus if counts.get(status))
    )
    rooms = [
        Text(f"{state.name}: {room(state)}", style="bold")
        + Text(f"  {trouble(state)}" if trouble(state) else "", style="red3")
        for state in backends
    ]
    head = Text.assemble((meta.name, "bold"), f"  {done(counts)}/{meta.total} tiles  {_pace(counts, meta, throughput)}")
    return Group(head, bar(counts, meta.total), table, *rooms)


def room(state: BackendState) -> str:
    """How many jobs a back-end has of those that it may have, and how many are created ahead or wait."""
    ahead = state.places - state.started
    text = f"{state.started}/{state.most} jobs"
    text += f", {ahead} ahead" if ahead > 0 else ""
    text += f", {state.waiting} tiles wait" if state.waiting else ""
    text += f", {state.requests_per_second:g} requests/s" if state.requests_per_second else ""
    return text + (f", {state.submissions_per_minute:g} submissions/min" if state.submissions_per_minute else "")


def bar(counts: Mapping[TileStatus, int], total: int, width: int = _BAR) -> Text:
    """One bar of `width` cells in the colours of the statuses, the end of a tile's life first."""
    text, before, cells = Text(), 0, 0
    for status in sorted(counts, key=list(TileStatus).index, reverse=True):
        before += counts[status]
        upto = round(width * before / max(total, 1))
        text.append("━" * (upto - cells), style=STYLES[status])
        cells = upto
    return text


def plain(
    meta: CampaignMeta,
    counts: Mapping[TileStatus, int],
    throughput: Throughput,
    backends: Sequence[BackendState] = (),
) -> str:
    """The campaign on one line."""
    statuses = ", ".join(f"{counts[status]} {status}" for status in TileStatus if counts.get(status))
    line = f"{meta.name}: {done(counts)}/{meta.total} done ({statuses}) {_pace(counts, meta, throughput)}".rstrip()
    return "; ".join([line, *(f"{state.name} {trouble(state)}" for state in backends if trouble(state))])


def trouble(state: BackendState) -> str:
    """Why a back-end is stopped or paused, or what went wrong there at the last look; empty when all is well."""
    if state.stopped:
        return f"stopped: {state.stopped}"
    if state.paused:
        left = max(1, round(state.paused_until - time.time()))
        return f"paused for {left} s: {state.paused_reason}"
    return f"trouble: {state.trouble}" if state.trouble else ""


def _pace(counts: Mapping[TileStatus, int], meta: CampaignMeta, throughput: Throughput) -> str:
    rate = throughput.per_second
    left = throughput.time_left(meta.total - done(counts))
    return f"{rate * 60:.1f} tiles/min, {left} left" if rate and left is not None else ""
