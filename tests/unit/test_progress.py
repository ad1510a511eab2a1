"""Progress and report: what a person sees of a campaign, and what a program reads."""

from __future__ import annotations

import io
import json
import time
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from campaign.control import Control
from campaign.errors import StoreUnavailable
from campaign.meta import BackendState, CampaignMeta
from campaign.tile import TERMINAL, Tile, TileStatus
from producer import progress, report
from producer.progress import STYLES, Throughput, bar, done, plain, render

S = TileStatus
KNOWN: dict[str, Any] = {
    "name": "ndvi",
    "path": "/c.py",
    "urls": {"b": "https://b"},
    "output": "/out",
    "total": 10,
    "created_at": 1000.0,
}
META = CampaignMeta(**{field.name: KNOWN.get(field.name) for field in fields(CampaignMeta)})  # type: ignore[arg-type]


class Store:
    """What progress and report ask the store for, from plain values."""

    def __init__(self, counts: list[dict[TileStatus, int]], tiles: list[Tile] | None = None) -> None:
        self.looks, self.found = counts, tiles or []
        self.paused_until, self.trouble = 0.0, ""

    def counts(self, _: str) -> dict[TileStatus, int]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def catalog_state(self, _: str) -> dict[str, float]:
        return {"published": float(self.looks[0].get(S.PUBLISHED, 0)), "asked_at": 0.0, "asked_for": 0.0}

    def tiles(self, _: str) -> list[Tile]:
        return self.found

    def tiles_on(self, _: str) -> list[Tile]:
        return [tile for tile in self.found if tile.status is S.RUNNING]

    def control(self, _: str) -> Control:
        return Control(spent=6.0, jobs_paid=2)

    def get(self, _: str, tile_id: str) -> Tile | None:
        return next((tile for tile in self.found if tile.id == tile_id), None)

    def history(self, *_: str) -> list[dict[str, Any]]:
        entry = {"attempt": 1, "job_id": "j-1", "backend": "b", "step": "track", "error_class": "job"}
        return [entry | {"error": "first\nsecond"}]

    def backend(self, name: str) -> BackendState:
        return BackendState(
            name,
            "https://b",
            parallel_jobs=2,
            started=1,
            waiting=4,
            paused_until=self.paused_until,
            paused_reason="payment: none left",
            trouble=self.trouble,
        )

    def now(self) -> float:
        return 1000.0

    def ticked_at(self) -> float:
        return 990.0


def shown(renderable: Any) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(renderable)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@given(st.dictionaries(st.sampled_from(list(S)), st.integers(0, 5000)), st.integers(1, 200))
def test_the_bar_is_as_wide_as_the_part_it_shows(counts: dict[TileStatus, int], width: int) -> None:
    total = sum(counts.values())
    text = bar(counts, total, width)
    assert len(text) == (width if total else 0)
    for span in text.spans:
        status = next(status for status, style in STYLES.items() if style == span.style)
        assert abs((span.end - span.start) - width * counts[status] / total) < 1


def test_the_bar_leaves_room_for_tiles_not_counted() -> None:
    assert len(bar({S.PUBLISHED: 5}, 10, 60)) == 30
    assert len(bar({}, 0)) == 0


def test_the_bar_begins_with_the_end_of_a_tiles_life() -> None:
    spans = bar({S.NOT_STARTED: 1, S.RUNNING: 1, S.PUBLISHED: 1}, 3, 30).spans
    assert [span.style for span in spans] == [STYLES[S.PUBLISHED], STYLES[S.RUNNING], STYLES[S.NOT_STARTED]]


def test_every_status_has_a_style() -> None:
    assert set(STYLES) == set(S)


def test_throughput() -> None:
    throughput = Throughput()
    assert throughput.per_second is None
    throughput.add(100.0, 0)
    assert throughput.per_second is None
    throughput.add(110.0, 0)
    assert throughput.per_second is None
    assert throughput.time_left(10) is None
    throughput.add(120.0, 40)
    assert throughput.per_second == 2.0
    assert throughput.time_left(60) == timedelta(seconds=30)
    assert throughput.time_left(0) == timedelta(0)


def test_throughput_forgets_what_was_long_ago() -> None:
    throughput = Throughput()
    for second in range(0, 400, 10):
        throughput.add(float(second), second if second < 200 else 200 + (second - 200) * 10)
    assert throughput.per_second == pytest.approx(10.0)
    assert len(throughput.samples) <= 14


def test_two_looks_at_once_give_no_rate() -> None:
    throughput = Throughput()
    throughput.add(1.0, 0)
    throughput.add(1.0, 5)
    assert throughput.per_second is None


def test_done_is_what_no_worker_moves_on() -> None:
    assert done(dict.fromkeys(S, 1)) == len(TERMINAL) == 4


COUNTS = {S.NOT_STARTED: 3, S.RUNNING: 2, S.PUBLISHED: 4, S.FAILED: 1}


def test_one_line() -> None:
    throughput = Throughput()
    line = plain(META, COUNTS, throughput)
    assert line == "ndvi: 5/10 done (3 not_started, 2 running, 4 published, 1 failed)"
    throughput.add(0.0, 0)
    throughput.add(10.0, 5)
    assert plain(META, COUNTS, throughput) == f"{line} 30.0 tiles/min, 0:00:10 left"


def test_the_block() -> None:
    paused = BackendState(
        "b",
        "https://b",
        parallel_jobs=2,
        started=1,
        waiting=4,
        paused_until=time.time() + 60,
        paused_reason="payment: none left",
        trouble="",
    )
    free = BackendState(
        "d",
        "https://d",
        parallel_jobs=8,
        started=0,
        waiting=4,
        paused_until=time.time() - 60,
        paused_reason="capacity: long ago",
        trouble="",
    )
    ailing = BackendState(
        "e",
        "https://e",
        parallel_jobs=8,
        started=0,
        waiting=4,
        paused_until=0.0,
        paused_reason="",
        trouble="[500] Internal",
    )
    text = shown(render(META, COUNTS, Throughput(), [paused, free, ailing]))
    assert "ndvi  5/10 tiles" in text
    assert "3" in text
    assert "not_started 3" in text
    assert "b: 1/2 jobs, 4 tiles wait  paused for 60 s: payment: none left" in text
    assert "d: 0/8 jobs" in text
    assert "e: 0/8 jobs, 4 tiles wait  trouble: [500] Internal" in text
    assert "long ago" not in text
    assert "canceled" not in text
    assert "━" * 60 in text


def test_a_reason_with_brackets_is_shown_as_it_is() -> None:
    state = BackendState(
        "b",
        "",
        parallel_jobs=2,
        started=0,
        waiting=0,
        paused_until=time.time() + 60,
        paused_reason="capacity: [429] [bold]slow[/bold]",
        trouble="",
    )
    assert "[429] [bold]slow[/bold]" in shown(render(META, COUNTS, Throughput(), [state]))


def test_watch_shows_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    looks = [{S.NOT_STARTED: 10}, {S.NOT_STARTED: 10}, {S.RUNNING: 10}, {S.PUBLISHED: 10}]
    console = Console(file=io.StringIO(), width=100)
    calls: list[None] = []
    progress.watch(Store(looks), META, lambda: calls.append(None), console)  # type: ignore[arg-type]
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(" (")[1].split(")")[0] for line in lines] == ["10 not_started", "10 running", "10 published"]
    assert len(calls) == 3


def test_watch_on_a_terminal_ends_with_the_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    progress.watch(Store([{S.RUNNING: 10}, {S.FAILED: 10}]), META, lambda: None, console)  # type: ignore[arg-type]
    assert "failed 10" in console.file.getvalue()  # type: ignore[attr-defined]


def test_watch_outlives_a_redis_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    store = Store([{S.RUNNING: 10}, {S.PUBLISHED: 10}])
    counts, looks = store.counts, []

    def away(name: str) -> dict[TileStatus, int]:
        looks.append(name)
        if len(looks) in {2, 3}:
            raise StoreUnavailable("Redis does not answer")
        return counts(name)

    monkeypatch.setattr(store, "counts", away)
    console = Console(file=io.StringIO(), width=100)
    progress.watch(store, META, lambda: None, console)  # type: ignore[arg-type]
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(" (")[0] for line in lines] == [
        "ndvi: 0/10 done",
        "Redis does not answer; waiting for it",
        "ndvi: 10/10 done",
    ]


def test_watch_ends_when_redis_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    calls: list[None] = []

    def look_after() -> None:
        calls.append(None)
        raise StoreUnavailable("the embedded Redis does not start")

    console = Console(file=io.StringIO(), width=100)
    with pytest.raises(StoreUnavailable, match="does not start"):
        progress.watch(Store([{S.RUNNING: 10}]), META, look_after, console)  # type: ignore[arg-type]
    assert len(calls) == progress.RESTARTS


@pytest.mark.parametrize(
    ("counts", "rests"),
    [
        ({S.PUBLISHED: 10}, True),
        ({S.FAILED: 5, S.CANCELED: 3, S.SKIPPED: 2}, True),
        ({S.PUBLISHED: 9, S.POSTPROCESSED: 1}, False),
        ({S.NOT_STARTED: 1}, False),
        ({}, True),
    ],
)
def test_when_a_campaign_is_at_rest(counts: dict[TileStatus, int], *, rests: bool) -> None:
    assert progress.at_rest(Store([counts]), "ndvi", counts) is rests  # type: ignore[arg-type]


def test_a_campaign_rests_only_when_its_catalog_is_up_to_date() -> None:
    store = Store([{S.PUBLISHED: 9}])
    assert not progress.at_rest(store, "ndvi", {S.PUBLISHED: 10})  # type: ignore[arg-type]


def test_status_is_json() -> None:
    store = Store([COUNTS])
    found = json.loads(json.dumps(report.status(store, META)))  # type: ignore[arg-type]
    assert found["by_status"] == {"not_started": 3, "running": 2, "published": 4, "failed": 1}
    assert (found["campaign"], found["total"]) == ("ndvi", 10)
    limits = {"parallel_jobs": 2, "queued_jobs": 0, "prepared_jobs": 0}
    limits |= {"requests_per_second": None, "submissions_per_minute": None}
    backend = {"url": "https://b", "limits": limits, "most_jobs": 2, "started": 1, "ahead": 0, "waiting": 4}
    backend |= {"paused": None, "stopped": None, "trouble": None, "jobs": {}}
    assert found["backends"] == {"b": backend}
    assert found["last_tick"] == 10.0
    assert found["catalog"] == "/out/catalog/catalog.json"
    store.paused_until, store.trouble = time.time() + 60, "[500] Internal"
    assert report.status(store, META)["backends"]["b"]["trouble"] == "[500] Internal"  # type: ignore[arg-type]
    assert report.status(store, META)["backends"]["b"]["paused"] == "payment: none left"  # type: ignore[arg-type]


def failed(number: int, error: str) -> Tile:
    words = {"failed_step": "track", "error_class": "job", "error": error, "costs": 2.5, "since": 1100.0 + number}
    return Tile("ndvi", f"t{number}", S.FAILED, **words)  # type: ignore[arg-type]


def test_the_summary() -> None:
    tiles = [failed(0, "a\nOOM"), failed(1, "b\nOOM"), failed(2, "Internal"), Tile("ndvi", "t3", S.PUBLISHED, costs=3)]
    store = Store([{S.FAILED: 3, S.PUBLISHED: 1}], tiles)
    assert list(report.summary(store, META)) == [  # type: ignore[arg-type]
        "ndvi: 1 of 10 tiles published",
        "  failed: 3",
        "    2 x track, job: OOM",
        "    1 x track, job: Internal",
        "  time: 0:01:42, costs: 10.5 credits for 4 jobs",
        "  results: /out/ndvi",
        "  catalog: /out/catalog/catalog.json",
    ]


def test_the_summary_of_nothing() -> None:
    lines = list(report.summary(Store([{}]), META))  # type: ignore[arg-type]
    assert "  time: 0:00:00, costs: none given by the back-end" in lines


def test_one_tile_with_all_that_failed() -> None:
    text = report.one_tile(Store([{}], [failed(0, "x")]), META, "t0")  # type: ignore[arg-type]
    assert "id: t0" in text
    assert "attempt 1, job j-1 on b, track (job):\n  first\n  second" in text


def test_a_tile_that_is_not_there() -> None:
    with pytest.raises(Exception, match="campaign ndvi has no tile 't9'"):
        report.one_tile(Store([{}]), META, "t9")  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "line"), [("a\nb\n", "b"), ("", ""), ("one", "one")])
def test_the_line_that_says_most(text: str, line: str) -> None:
    assert report.last_line(text) == line
