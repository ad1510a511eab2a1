"""A tile's life: the table of transitions is whole, and illegal moves are loud."""

from __future__ import annotations

import pytest

from campaign.errors import IllegalTransition
from campaign.message import tile_message, track_message
from campaign.tile import (
    HOLDS_SLOT,
    NAME_PATTERN,
    NEXT_STEP,
    RETRY_FROM,
    TERMINAL,
    TRANSITIONS,
    Marker,
    Step,
    Tile,
    TileStatus,
    check_transition,
    read_marker,
)


def test_every_status_has_transitions() -> None:
    assert set(TRANSITIONS) == set(TileStatus)


@pytest.mark.parametrize("status", [status for status in TileStatus if status is not TileStatus.NOT_STARTED])
def test_every_status_can_be_reached(status: TileStatus) -> None:
    reached, fringe = set(), {TileStatus.NOT_STARTED}
    while fringe:
        reached |= fringe
        fringe = {target for source in fringe for target in TRANSITIONS[source]} - reached
    assert status in reached


def test_a_tile_on_its_way_can_always_fail_or_be_canceled() -> None:
    for status in NEXT_STEP:
        assert TileStatus.CANCELED in TRANSITIONS[status]
        if status is not TileStatus.NOT_STARTED:
            assert TileStatus.FAILED in TRANSITIONS[status]


def test_statuses_without_a_step_are_terminal() -> None:
    assert {"published", "failed", "canceled", "skipped"} == TERMINAL
    assert not HOLDS_SLOT & TERMINAL


def test_a_failed_tile_can_go_back_to_each_step() -> None:
    for status in RETRY_FROM.values():
        check_transition(TileStatus.FAILED, status)


def test_illegal_transition_names_both_statuses() -> None:
    with pytest.raises(IllegalTransition, match="published -> running"):
        check_transition(TileStatus.PUBLISHED, TileStatus.RUNNING)


def test_a_marker_is_of_one_attempt_in_one_run_of_a_campaign() -> None:
    tile = Tile("ndvi", "a", attempt=1)
    assert tile.marker("6dbae8db") == "[fleet:ndvi/a/1 6dbae8db]"
    others = [tile.evolve(attempt=2), tile.evolve(attempt=11), tile.evolve(id="a1"), tile.evolve(campaign="ndvi2")]
    markers = {other.marker("6dbae8db") for other in others} | {tile.marker("6dbae8db0"), tile.marker("dbae8db")}
    assert len(markers) == 6
    assert not any(tile.marker("6dbae8db") in marker for marker in markers)


def test_a_marker_is_read_as_it_was_written() -> None:
    marker = Tile("n.d-v_i", "31UFS_10m.v1-2", attempt=12).marker("6dbae8db")
    for title in (marker, f"NDVI [x] {marker}", f"[fleet:other/a/1 6dbae8db] {marker} (copy)"):
        assert read_marker(title) == Marker("n.d-v_i", "31UFS_10m.v1-2", 12, "6dbae8db")
    for title in ("", "NDVI", "[fleet:ndvi/a]", "[fleet:ndvi/a/x run]", "[fleet:ndvi/../1 run]", "[fleet:ndvi/a/1]"):
        assert read_marker(title) is None


def test_names_are_safe_in_files_urls_and_keys() -> None:
    for bad in ("", "-a", ".a", "a/b", "a:b", "a b", "ä", "a\n"):
        assert not NAME_PATTERN.fullmatch(bad)
    assert NAME_PATTERN.fullmatch("31UFS_10m.v1-2")


def test_message_of_a_tile_says_what_a_person_reads() -> None:
    message = tile_message(Tile("ndvi", "a", status=TileStatus.FINISHED, attempt=2))
    assert message is not None
    assert (message.task, message.queue) == ("postprocess", "postprocess")
    assert message.kwargs == {"campaign": "ndvi", "tile": "a"}
    assert message.shown == "ndvi/a"
    assert message.task_id == "ndvi.a.postprocess.2"


def test_a_tile_at_rest_has_no_message() -> None:
    assert tile_message(Tile("ndvi", "a", status=TileStatus.PUBLISHED)) is None


def test_track_message_names_some_tiles_and_counts_the_rest() -> None:
    tiles = [Tile("ndvi", f"t{number}") for number in range(25)]
    message = track_message("cdse", tiles)
    assert message.queue == Step.TRACK
    assert message.kwargs == {"backend": "cdse"}
    assert message.shown.startswith("cdse: ndvi/t0, ndvi/t1")
    assert message.shown.endswith("and 5 more")
