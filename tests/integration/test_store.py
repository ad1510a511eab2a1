"""The store on a real Redis: the compare-and-set, room, waking, leases; and its invariants under any order of moves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign.errors import NoRoom, TransitionLost
from campaign.store import CampaignMeta
from campaign.tile import HOLDS_SLOT, TRANSITIONS, Tile, TileStatus
from workers.limits import Limits

if TYPE_CHECKING:
    from campaign.store import TileStore

S = TileStatus


def fill(store: TileStore, count: int = 3, rooms: dict[str, int] | None = None, name: str = "c") -> list[Tile]:
    rooms = rooms or {"b": 2}
    for backend, parallel_jobs in rooms.items():
        store.put_backend(backend, {"name": backend, "url": "http://x", "parallel_jobs": parallel_jobs})
    tiles = [Tile(name, f"t{number}", order=number) for number in range(count)]
    store.add_tiles(tiles, list(rooms))
    return tiles


def submit(store: TileStore, tile: Tile, backends: tuple[str, ...] = ("b",)) -> Tile:
    return store.claim(tile, 60, S.SUBMITTING, room="take", backends=backends, attempt=tile.attempt + 1)


def test_a_tile_comes_back_as_it_was_put(store: TileStore) -> None:
    fill(store, 1)
    tile = store.get("c", "t0")
    assert tile is not None
    changed = store.transition(tile, S.NOT_STARTED, job_id="j", costs=1.5, tries=2, error="what\nfor")
    assert store.get("c", "t0") == changed
    cleared = store.transition(changed, S.NOT_STARTED, job_id="", costs=None, tries=0, error="")
    assert store.get("c", "t0") == cleared


def test_adding_again_changes_nothing(store: TileStore) -> None:
    tiles = fill(store)
    held = submit(store, tiles[0])
    assert store.add_tiles(tiles, ["b"]) == 0
    assert store.get("c", "t0") == held


def test_only_one_of_two_claims_wins(store: TileStore) -> None:
    tiles = fill(store)
    submit(store, tiles[0])
    with pytest.raises(TransitionLost):
        submit(store, tiles[0])


def test_a_held_tile_can_be_claimed_again_only_after_its_lease(store: TileStore) -> None:
    tiles = fill(store)
    held = store.claim(tiles[0], 0.2, S.SUBMITTING, room="take", backends=["b"], attempt=1)
    with pytest.raises(TransitionLost):
        store.claim(held, 60)
    time.sleep(0.25)
    second = store.claim(held, 60)
    assert second.holder != held.holder
    with pytest.raises(TransitionLost):
        store.transition(held, S.CREATED, job_id="j1")
    store.transition(second, S.CREATED, job_id="j2")


def test_a_tile_without_room_waits_and_is_woken_in_order(store: TileStore) -> None:
    limits = Limits(store, 15)
    tiles = fill(store, 4)
    first, _ = submit(store, tiles[0]), submit(store, tiles[1])
    with pytest.raises(NoRoom):
        submit(store, tiles[3])
    assert limits.wake("b") == []
    store.transition(first, S.SKIPPED, room="free")
    assert [tile.id for tile in limits.wake("b")] == ["t2"]
    assert limits.wake("b") == []
    assert store.backend("b").used == 2
    woken = store.get("c", "t2")
    assert woken is not None
    assert submit(store, woken).backend == "b"
    assert store.backend("b").used == 2


def test_a_paused_backend_gives_no_room(store: TileStore) -> None:
    limits = Limits(store, 15)
    tiles = fill(store, 1)
    limits.pause("b", 60, "payment: no credits")
    assert limits.wake("b") == []
    with pytest.raises(NoRoom):
        submit(store, tiles[0])
    assert store.backend("b").paused_reason == "payment: no credits"


def test_a_tile_goes_where_most_room_is(store: TileStore) -> None:
    tiles = fill(store, 3, {"small": 1, "big": 2})
    went = [submit(store, tile, ("small", "big")).backend for tile in tiles]
    assert sorted(went) == ["big", "big", "small"]


def test_a_woken_tile_that_nobody_submits_becomes_due(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.limits.LOST_AFTER", 0.05)
    limits = Limits(store, 15)
    fill(store, 1)
    assert [tile.id for tile in limits.wake("b")] == ["t0"]
    time.sleep(0.1)
    assert [tile.id for tile in limits.overdue()] == ["t0"]


def test_one_tracker_at_a_time(store: TileStore) -> None:
    limits = Limits(store, 15)
    with limits.tracking("b") as mine, limits.tracking("b") as other:
        assert (mine, other) == (True, False)
    with limits.tracking("b") as again:
        assert again


def test_leases_are_renewed_while_held(store: TileStore) -> None:
    limits = Limits(store, 0.6)
    tiles = fill(store)
    held = store.claim(tiles[0], 0.6, S.SUBMITTING, room="take", backends=["b"], attempt=1)
    with limits.holding(held):
        time.sleep(1.0)
        with pytest.raises(TransitionLost):
            store.claim(held, 60)
    time.sleep(0.7)
    store.claim(held, 60)


def test_campaign_comes_back_as_it_was_put(store: TileStore) -> None:
    meta = CampaignMeta(
        "c", "/x.py", "0" * 64, {"b": "http://b", "a": "http://a"}, "/out", {"to": "static"}, 3, 9, "d", 1.5
    )
    store.put_campaign(meta)
    assert store.campaign("c") == meta
    assert store.campaign("nope") is None
    assert store.campaigns() == ["c"]


def test_events_tell_each_move(store: TileStore) -> None:
    tiles = fill(store)
    submit(store, tiles[0])
    events = store.redis.xrange(store.key("c", "c", "events"))
    assert [(event[b"from"], event[b"to"]) for _, event in events] == [(b"not_started", b"submitting")]


MOVES = st.lists(
    st.tuples(st.sampled_from(["move", "wake", "cancel", "steal"]), st.integers(0, 4), st.integers(0, 7)), max_size=40
)


@given(moves=MOVES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_the_store_agrees_with_itself(store: TileStore, moves: list[tuple[str, int, int]]) -> None:
    for key in store.redis.scan_iter(f"{store.namespace}:*"):
        store.redis.delete(key)
    limits = Limits(store, 15)
    fill(store, 5, {"b": 2, "d": 1})
    for act, number, choice in moves:
        tile = store.get("c", f"t{number}")
        assert tile is not None
        if act == "wake":
            limits.wake("b" if choice % 2 else "d")
        else:
            move(store, tile, act, choice)
        agree(store)


def move(store: TileStore, tile: Tile, act: str, choice: int) -> None:
    targets = sorted(TRANSITIONS[tile.status])
    target = S.CANCELED if act == "cancel" else targets[choice % len(targets)] if targets else None
    if target is None or target not in targets:
        return
    try:
        if target is S.SUBMITTING:
            submit(store, tile, ("b", "d"))
        elif target is S.NOT_STARTED:
            store.transition(tile, target, anyone=True, room="wait", backends=["b", "d"], backend="")
        else:
            room = "keep" if target in HOLDS_SLOT else "free"
            store.transition(tile.evolve(holder="stolen") if act == "steal" else tile, target, room=room, due=9)
    except (NoRoom, TransitionLost):
        pass


def agree(store: TileStore) -> None:
    tiles = {tile.id: tile for tile in store.tiles("c")}
    assert len(tiles) == 5
    assert sum(store.counts("c").values()) == 5
    waiting = {name: names(store, "b", name, "waiting") for name in ("b", "d")}
    slots = {name: names(store, "b", name, "slots") for name in ("b", "d")}
    assert len(slots["b"]) <= 2
    assert len(slots["d"]) <= 1
    for tile in tiles.values():
        where = [name for name, members in slots.items() if tile.key in members]
        assert where == [tile.backend] if tile.status in HOLDS_SLOT else len(where) <= (tile.status is S.NOT_STARTED)
        waits = [name for name, members in waiting.items() if tile.key in members]
        assert waits == ([] if where or tile.status is not S.NOT_STARTED else ["b", "d"])


def names(store: TileStore, *parts: str) -> set[str]:
    key = store.key(*parts)
    kind = store.redis.type(key)
    members = store.redis.smembers(key) if kind == b"set" else store.redis.zrange(key, 0, -1)
    return {member.decode() for member in members}
