"""The store on a real Redis: the compare-and-set, room, waking, leases; and its invariants under any order of moves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign.errors import InvalidInput, NoRoom, StoreUnavailable, TransitionLost
from campaign.meta import CampaignMeta
from campaign.store import TileStore
from campaign.tile import HOLDS_SLOT, TRANSITIONS, Tile, TileStatus
from producer.embedded_redis import EmbeddedRedis
from workers.limits import Limits
from workers.pauses import Pauses

if TYPE_CHECKING:
    from pathlib import Path

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
    assert store.backend("b").places == 2
    woken = store.get("c", "t2")
    assert woken is not None
    assert submit(store, woken).backend == "b"
    assert store.backend("b").places == 2


def test_a_paused_backend_gives_no_room(store: TileStore) -> None:
    limits = Limits(store, 15)
    tiles = fill(store, 1)
    Pauses(store).pause("b", 60, "payment: no credits", what="starts")
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
    assert [(tile.id, was_held) for tile, was_held in limits.overdue()] == [("t0", False)]
    assert limits.overdue() == []


def test_a_lease_that_ended_ends_the_hold(store: TileStore) -> None:
    limits = Limits(store, 15)
    tiles = fill(store)
    dead = store.claim(tiles[0], 0.01, S.SUBMITTING, room="take", backends=["b"], attempt=1)
    alive = store.claim(tiles[1], 60, S.SUBMITTING, room="take", backends=["b"], attempt=1)
    time.sleep(0.02)
    ((tile, was_held),) = limits.overdue()
    assert (tile, was_held) == (dead.evolve(holder=""), True)
    assert store.get("c", "t1") == alive
    with pytest.raises(TransitionLost):
        store.transition(dead, S.CREATED, job_id="j1")
    again = store.claim(tile, 60)
    assert (again.tries, again.status) == (2, S.SUBMITTING)
    store.transition(again, S.CREATED, job_id="j2")


def test_one_tracker_at_a_time(store: TileStore) -> None:
    limits = Limits(store, 15)
    with limits.tracking("b") as mine, limits.tracking("b") as other:
        assert (mine, other) == (True, False)
    with limits.tracking("b") as again:
        assert again


def hold(store: TileStore, tile: Tile, seconds: float = 0.6) -> Tile:
    return store.claim(tile, seconds, S.SUBMITTING, room="take", backends=["b"], attempt=1)


def test_leases_are_renewed_while_held(store: TileStore) -> None:
    limits = Limits(store, 0.6)
    held = hold(store, fill(store)[0])
    with limits.leases.tile(held):
        time.sleep(1.0)
        with pytest.raises(TransitionLost):
            store.claim(held, 60)
    time.sleep(0.7)
    store.claim(held, 60)


def test_leases_outlive_a_redis_that_is_away_for_a_moment(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = Limits(store, 0.6).leases
    held = hold(store, fill(store)[0])
    renew, calls = leases._renew, []

    def away_first(**words: Any) -> Any:
        calls.append(words)
        if len(calls) == 1:
            raise StoreUnavailable("Redis does not answer")
        return renew(**words)

    monkeypatch.setattr(leases, "_renew", away_first)
    with leases.tile(held):
        time.sleep(1.0)
        with pytest.raises(TransitionLost):
            store.claim(held, 60)
    assert len(calls) >= 3


def test_a_step_that_hangs_loses_its_tile(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.leases.LONGEST", 0.1)
    limits = Limits(store, 0.3)
    held = hold(store, fill(store)[0], 0.3)
    with limits.leases.tile(held):
        time.sleep(0.5)
        assert [(tile.id, was_held) for tile, was_held in limits.overdue()] == [("t0", True)]


def test_a_lease_is_renewed_for_who_holds_the_tile_only(store: TileStore) -> None:
    """A worker that was taken over does not keep the tile from a third one."""
    leases = Limits(store, 0.3).leases
    late = hold(store, fill(store)[0], 0.01)
    time.sleep(0.02)
    now = store.claim(late, 0.4)
    with leases.tile(late):
        time.sleep(0.6)
    assert store.claim(now, 60).holder != now.holder


def test_a_trackers_lease_is_renewed(store: TileStore) -> None:
    limits, other = Limits(store, 0.3), Limits(store, 0.3)
    with limits.tracking("b") as mine:
        time.sleep(0.6)
        with other.tracking("b") as too:
            assert (mine, too) == (True, False)
    with other.tracking("b") as now:
        assert now


def test_outages_pause_longer_and_longer(store: TileStore) -> None:
    fill(store)
    pauses = Pauses(store)
    found = []
    for _ in range(11):
        found.append(pauses.outage("b", "outage: away"))
        if found[-1]:
            again = pauses.outage("b", "outage: others notice it at the same time")
            assert again == pytest.approx(found[-1], abs=1)
        store.redis.hdel(store.key("b", "b"), "paused_until", "silent_until")
    assert found == [0, 0, 5, 10, 20, 40, 80, 160, 300, 300, 300]
    pauses.outage("b", "outage: away")
    assert pauses.paused_for("b") == pytest.approx(300, abs=2)
    pauses.answered("b")
    store.redis.hdel(store.key("b", "b"), "paused_until", "silent_until")
    assert Pauses(store).outage("b", "outage: away") == 0


@pytest.mark.parametrize("first", ["starts", "everything"])
def test_of_two_pauses_each_holds_until_it_ends(store: TileStore, first: str) -> None:
    fill(store)
    pauses = [(600, "payment: none left", "starts"), (10, "capacity: too many", "everything")]
    for seconds, reason, what in pauses if first == "starts" else reversed(pauses):
        Pauses(store).pause("b", seconds, reason, what=what)
    assert Pauses(store).paused_for("b") == pytest.approx(600, abs=2)
    assert Pauses(store).paused_for("b", starting=False) == pytest.approx(10, abs=2)
    assert store.backend("b").paused_reason == "payment: none left"


def test_a_pause_is_forgotten_when_the_user_has_mended_it(store: TileStore) -> None:
    fill(store)
    for _ in range(3):
        Pauses(store).outage("b", "outage: away")
    Pauses(store).trouble("b", "away")
    store.clear_pause("b")
    state = store.backend("b")
    assert (state.paused, state.paused_reason, state.trouble) == (False, "", "")
    assert Pauses(store).outage("b", "outage: away") == 0
    assert store.backend_settings("b")["parallel_jobs"] == "2"


def twice(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Have each move made twice, as the client does whose answer was lost; what Redis answered to the first."""
    script, firsts = store._transition, []

    def call(**words: Any) -> Any:
        firsts.append(script(**words))
        return script(**words)

    monkeypatch.setattr(store, "_transition", call)
    return firsts


def test_a_move_whose_answer_was_lost_is_made_once(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = fill(store, 2, {"b": 2, "d": 1})
    firsts = twice(store, monkeypatch)
    held = submit(store, tiles[0], ("b", "d"))
    assert store.get("c", "t0") == held
    assert (held.backend, held.tries, store.backend("b").places, store.backend("d").places) == ("b", 1, 1, 0)
    back = store.transition(
        held, S.NOT_STARTED, room="wait", backends=["b", "d"], failure={"step": "submit"}, backend="", since=0.0
    )
    assert [store.backend(name).places for name in ("b", "d")] == [0, 0]
    assert len(store.history("c", "t0")) == 1
    assert len(store.redis.xrange(store.key("c", "c", "events"))) == 2
    assert [answer[0] for answer in firsts] == [b"ok", b"ok"]
    assert back.since == pytest.approx(store.now(), abs=5)


def test_a_claim_is_lost_to_another_worker_and_not_to_its_own_repeat(
    store: TileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = fill(store)
    twice(store, monkeypatch)
    held = submit(store, tiles[0])
    with pytest.raises(TransitionLost):
        submit(store, tiles[0])
    created = store.transition(held, S.CREATED, holder=held.holder, due=60, job_id="j1")
    assert store.get("c", "t0") == created


def test_what_failed_is_in_the_history_with_the_move_or_not_at_all(store: TileStore) -> None:
    tiles = fill(store)
    held = submit(store, tiles[0])
    failed = store.transition(held, S.FAILED, room="free", failure={"step": "submit", "error": "x"})
    with pytest.raises(TransitionLost):
        store.transition(held, S.FAILED, room="free", failure={"step": "submit", "error": "y"})
    (entry,) = store.history("c", "t0")
    assert (entry["error"], entry["attempt"], entry["backend"]) == ("x", 1, "b")
    assert failed.status is S.FAILED


def test_campaign_comes_back_as_it_was_put(store: TileStore) -> None:
    meta = CampaignMeta(
        name="c",
        run="6dbae8db",
        path="/x.py",
        source="title = 'Gänserndorf'\n",
        sha256="0" * 64,
        urls={"b": "http://b", "a": "http://a"},
        output="/out",
        publish={"to": "static"},
        max_attempts=3,
        total=9,
        digest="1234",
        created_at=1.5,
        pilot=2,
        budget=99.5,
        escalate=[{"executor-memory": "4G"}, {"executor-memory": "8G"}],
        rules=[{"error_class": "data", "match": "sea"}],
        cancel_running_job_after=3600.0,
    )
    store.put_campaign(meta)
    assert store.campaign("c") == meta
    assert meta.backends == ("b", "a")
    assert store.campaign("nope") is None
    assert store.campaigns() == ["c"]


def test_events_tell_each_move(store: TileStore) -> None:
    tiles = fill(store)
    submit(store, tiles[0])
    events = store.redis.xrange(store.key("c", "c", "events"))
    assert [(event[b"from"], event[b"to"]) for _, event in events] == [(b"not_started", b"submitting")]


def test_settings_of_a_back_end_are_replaced_and_its_state_stays(store: TileStore) -> None:
    fill(store)
    Pauses(store).pause("b", 60, "capacity: too many")
    store.put_backend("b", {"name": "b", "url": "http://y"})
    kept = store.backend_settings("b")
    assert (kept["url"], "parallel_jobs" in kept) == ("http://y", False)
    assert store.backend("b").paused


# A Redis that is not there


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", ""])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(InvalidInput, match="FLEET_REDIS_URL: has to be"):
        TileStore.connect(url)


def test_a_redis_that_does_not_answer_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campaign.redis_client._RETRIES", 0)
    with pytest.raises(StoreUnavailable, match="Redis does not answer") as told:
        TileStore.connect("redis://:hunter2@127.0.0.1:9")
    assert "hunter2" not in str(told.value)


def test_a_redis_that_does_not_answer_at_first_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campaign.redis_client._RETRIES", 0)
    with pytest.raises(StoreUnavailable, match="check FLEET_REDIS_URL"):
        TileStore.connect("redis://127.0.0.1:9")


def test_a_redis_that_goes_away_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campaign.redis_client._RETRIES", 1)
    server = EmbeddedRedis(tmp_path)
    store = TileStore.connect(server.url, "test")
    tiles = fill(store)
    held = submit(store, tiles[0])
    server.stop()
    with pytest.raises(StoreUnavailable):
        store.get("c", "t0")
    with pytest.raises(StoreUnavailable):
        store.transition(held, S.CREATED, job_id="j1")
    with pytest.raises(StoreUnavailable):
        store.backend_names()
    server.look_after()
    assert store.get("c", "t0") == held
    assert store.transition(held, S.CREATED, job_id="j1").job_id == "j1"
    store.redis.close()
    server.stop()


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
    waiting = {name: names(store, "b", name, "waiting", "c") for name in ("b", "d")}
    slots = {name: names(store, "b", name, "slots") for name in ("b", "d")}
    assert len(slots["b"]) <= 2
    assert len(slots["d"]) <= 1
    for tile in tiles.values():
        where = [name for name, members in slots.items() if tile.key in members]
        assert where == [tile.backend] if tile.status in HOLDS_SLOT else len(where) <= (tile.status is S.NOT_STARTED)
        waits = [name for name, members in waiting.items() if tile.id in members]
        assert waits == ([] if where or tile.status is not S.NOT_STARTED else ["b", "d"])


def names(store: TileStore, *parts: str) -> set[str]:
    key = store.key(*parts)
    kind = store.redis.type(key)
    members = store.redis.smembers(key) if kind == b"set" else store.redis.zrange(key, 0, -1)
    return {member.decode() for member in members}
