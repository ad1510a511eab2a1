"""Room on the store: places, the right to start, jobs created ahead and those that wait, under any order of moves."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign.control import Controls
from campaign.errors import NoRoom, TransitionLost
from campaign.tile import HAS_STARTED, HOLDS_SLOT, NEXT_STEP, NO_FAILURE, Tile, TileStatus
from workers.limits import Limits
from workers.pauses import Pauses

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign.store import TileStore

S = TileStatus
TILES = 7
BACKENDS = ("a", "b")


def backend(
    store: TileStore, name: str = "b", parallel: int = 2, queued: int = 1, prepared: int = 2, **more: Any
) -> None:
    limits = {"parallel_jobs": parallel, "queued_jobs": queued, "prepared_jobs": prepared}
    store.put_backend(name, {"name": name, "url": "http://x", **limits, **more})


def tiles_in(store: TileStore, count: int, backends: tuple[str, ...] = ("b",), campaign: str = "c") -> None:
    store.add_tiles([Tile(campaign, f"t{number}", order=number) for number in range(count)], backends)


def get(store: TileStore, name: str) -> Tile:
    tile = store.get("c", name)
    assert tile is not None
    return tile


def take(store: TileStore, tile: Tile, backends: tuple[str, ...] = ("b",)) -> Tile:
    return store.claim(tile, 60, S.SUBMITTING, room="take", backends=backends, attempt=tile.attempt + 1, job_id="")


def create(store: TileStore, tile: Tile, room: str = "start") -> Tile:
    return store.transition(
        tile, S.CREATED, holder=tile.holder, due=60, room=room, job_id=f"j-{tile.id}-{tile.attempt}", **NO_FAILURE
    )


def queued(store: TileStore, tile: Tile) -> Tile:
    return store.transition(tile, S.QUEUED, room="started", started_at=store.now(), **NO_FAILURE)


def running(store: TileStore, name: str) -> Tile:
    return queued(store, create(store, take(store, get(store, name))))


def keys(store: TileStore, name: str, what: str) -> set[str]:
    key = store.key("b", name, what)
    found = store.redis.zrange(key, 0, -1) if store.redis.type(key) == b"zset" else store.redis.smembers(key)
    return {member.decode() for member in found}


def due(store: TileStore, tile: Tile) -> float | None:
    score = store.redis.zscore(store.key("due"), tile.key)
    return None if score is None else score - store.now()


# What tells the whole of it


def test_a_start_takes_a_tile_out_of_those_that_wait_for_one(store: TileStore) -> None:
    """A submit message that nobody asked for comes when there is room, before the tile is woken."""
    backend(store, parallel=1, queued=0)
    tiles_in(store, 2)
    first = running(store, "t0")
    waits = create(store, take(store, get(store, "t1")))
    assert (waits.holder, keys(store, "b", "ready")) == ("", {"c/t1"})
    store.transition(first, S.FINISHED, room="free")
    held = store.claim(waits, 60, room="start")
    assert held.holder
    assert keys(store, "b", "ready") == set()
    assert Limits(store, 15).wake("b") == []
    queued(store, held)
    assert keys(store, "b", "started") == {"c/t1"}


def test_a_stray_message_to_a_tile_that_waits_for_its_start_changes_nothing(store: TileStore) -> None:
    backend(store, parallel=1, queued=0)
    tiles_in(store, 2)
    running(store, "t0")
    before = create(store, take(store, get(store, "t1")))
    assert not store.claim(before, 60, room="start").holder
    assert get(store, "t1") == before
    assert due(store, before) is None
    assert keys(store, "b", "ready") == {"c/t1"}


@pytest.mark.parametrize("room", ["take", "start", "ready"])
def test_a_lost_answer_is_repeated_with_the_same_room(
    store: TileStore, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend(store, parallel=1, queued=0, prepared=1)
    tiles_in(store, 3)
    if room == "ready":
        running(store, "t0")
    script, answers = store._transition, []

    def call(**words: Any) -> Any:
        answers.append([script(**words), script(**words)])
        return answers[-1][1]

    monkeypatch.setattr(store, "_transition", call)
    held = take(store, get(store, "t1"))
    if room != "take":
        assert bool(create(store, held).holder) is (room == "start")
    for first, second in answers:
        assert (first[0], first[2:]) == (second[0], second[2:])
    state = store.backend("b")
    assert (state.places, state.started, state.ready) == {"take": (1, 0, 0), "start": (1, 1, 0), "ready": (2, 1, 1)}[
        room
    ]


def test_limits_lowered_while_jobs_run_hold_until_there_is_room(store: TileStore) -> None:
    backend(store, parallel=3, queued=0, prepared=0)
    tiles_in(store, 5)
    jobs = [running(store, f"t{number}") for number in range(3)]
    backend(store, parallel=1, queued=0, prepared=1)
    limits = Limits(store, 15)
    for job, woken in zip(jobs, ([], ["t3"], ["t4"]), strict=True):
        assert [tile.id for tile in limits.wake("b")] == []
        store.transition(job, S.FINISHED, room="free")
        assert [tile.id for tile in limits.wake("b")] == woken, job.id
    assert create(store, take(store, get(store, "t4"))).holder
    assert not create(store, take(store, get(store, "t3"))).holder


def test_a_back_end_with_missing_fields_gives_nothing_and_breaks_nothing(store: TileStore) -> None:
    store.redis.sadd(store.key("backends"), "bare")
    store.redis.hset(store.key("b", "bare"), "quiet", 1)
    backend(store)
    store.redis.hdel(store.key("b", "b"), "queued_jobs", "prepared_jobs")
    tiles_in(store, 4, ("bare", "b"))
    limits = Limits(store, 15)
    assert limits.wake("bare") == []
    assert [tile.id for tile in limits.wake("b")] == ["t0", "t1"]
    assert take(store, get(store, "t0"), ("bare", "b")).backend == "b"


def test_two_campaigns_share_the_room_by_rank(store: TileStore) -> None:
    backend(store, parallel=2, queued=0, prepared=0)
    tiles_in(store, 2)
    tiles_in(store, 2, campaign="d")
    assert sorted(tile.key for tile in Limits(store, 15).wake("b")) == ["c/t0", "d/t0"]
    assert store.backend("b").waiting == 2


def test_a_paused_campaign_leaves_the_room_to_others(store: TileStore) -> None:
    """Jobs of it were created when the pause came: they wait, and others are started."""
    backend(store, parallel=1, queued=0, prepared=1)
    tiles_in(store, 2)
    tiles_in(store, 2, campaign="d")
    held = [take(store, get(store, name)) for name in ("t0", "t1")]
    Controls(store).put("c", paused="by the user")
    assert [create(store, tile).holder for tile in held] == ["", ""]
    limits = Limits(store, 15)
    assert [tile.key for tile in limits.wake("b")] == ["d/t0", "d/t1"]
    assert limits.wake("b") == []
    other = store.get("d", "t0")
    assert other is not None
    assert create(store, take(store, other)).holder
    assert limits.wake("b") == []
    Controls(store).put("c", paused="")
    assert limits.wake("b") == []


# Under any order of moves


class Fleet:
    """What workers, users and time may do to seven tiles on two back-ends; each move is one of theirs."""

    def __init__(self, store: TileStore) -> None:
        self.store, self.limits = store, Limits(store, 15)
        self.pauses, self.controls = Pauses(store), Controls(store)

    def apply(self, act: str, number: int, choice: int) -> None:
        able = [tile for tile in self.store.tiles("c") if tile.status in ABLE.get(act, S)]
        if not able:
            return
        tile = able[number % len(able)]
        before = self.room()
        with contextlib.suppress(NoRoom, TransitionLost):
            getattr(self, act)(tile, choice)
        self.agree(before, asked=act != "create_started")

    def submit(self, tile: Tile, _: int) -> None:
        take(self.store, tile, tuple(tile.candidates(BACKENDS)))

    def claim(self, tile: Tile, _: int) -> None:
        self.store.claim(tile, 60, room="start")

    def create(self, tile: Tile, _: int) -> None:
        if tile.holder:
            create(self.store, tile)

    def create_started(self, tile: Tile, _: int) -> None:
        if tile.holder:
            create(self.store, tile, "started")

    def start(self, tile: Tile, _: int) -> None:
        if tile.holder:
            queued(self.store, tile)

    def end(self, tile: Tile, _: int) -> None:
        self.store.transition(tile, S.FINISHED, room="free", due=30)

    def requeue(self, tile: Tile, choice: int) -> None:
        room, seconds = ("wait", None) if choice % 2 else ("free", 9)
        avoid = ("", "a", "b")[choice % 3]
        names = tuple(tile.evolve(avoid=avoid).candidates(BACKENDS))
        words: dict[str, Any] = {"room": room, "due": seconds, "backends": names, "backend": "", "avoid": avoid}
        self.store.transition(tile, S.NOT_STARTED, job_id="", **words)

    def put_off(self, tile: Tile, _: int) -> None:
        self.store.transition(tile.evolve(holder=""), tile.status, room="ready")

    def die(self, tile: Tile, _: int) -> None:
        self.store.redis.zadd(self.store.key("due"), {tile.key: 1}, xx=True)
        self.limits.overdue()

    def wake(self, _: Tile, choice: int) -> None:
        self.limits.wake(BACKENDS[choice % 2])

    def cancel(self, tile: Tile, _: int) -> None:
        self.store.transition(tile, S.CANCELED, anyone=True, room="free")

    def retry(self, tile: Tile, _: int) -> None:
        names = tile.candidates(BACKENDS)
        self.store.transition(tile, S.NOT_STARTED, room="wait", backends=names, job_id="", backend="")

    def pause(self, _: Tile, choice: int) -> None:
        name, action = BACKENDS[choice % 2], choice // 2
        if action == 0:
            self.pauses.pause(name, 60, "capacity: x", what="starts")
        elif action == 1:
            self.pauses.full(name, 1, 60, "capacity: x")
        elif action == 2:
            self.pauses.job_ended(name)
        else:
            self.store.clear_pause(name)

    def hold(self, _: Tile, choice: int) -> None:
        self.controls.put("c", paused="x" if choice == 0 else "", pilot_upto=3 if choice == 1 else None)

    def limit(self, _: Tile, choice: int) -> None:
        parallel, ahead = 1 + choice % 3, choice // 3
        backend(self.store, BACKENDS[choice % 2], parallel, ahead % 2, ahead)

    def room(self) -> dict[str, dict[str, set[str]]]:
        """Who has what on each back-end, in one look."""
        pipe, names = self.store.redis.pipeline(), [self.store.key("b", name) for name in BACKENDS]
        for name in names:
            pipe.smembers(f"{name}:slots").smembers(f"{name}:started")
            pipe.zrange(f"{name}:ready", 0, -1).zrange(f"{name}:waiting:c", 0, -1)
        found = [{member.decode() for member in members} for members in pipe.execute()]
        what = ("slots", "started", "ready", "waiting")
        return {name: dict(zip(what, found[4 * at : 4 * at + 4], strict=True)) for at, name in enumerate(BACKENDS)}

    def agree(self, before: dict[str, dict[str, set[str]]], *, asked: bool) -> None:
        tiles = {tile.key: tile for tile in self.store.get_many("c", [f"t{n}" for n in range(TILES)]) if tile}
        assert {tile.status for tile in tiles.values()} == set(self.store.counts("c"))
        after, places, waits = self.room(), {}, {}
        for name, now in after.items():
            assert now["started"] | now["ready"] <= now["slots"]
            assert not now["started"] & now["ready"]
            self.within_limits(name, before[name], now, asked=asked)
            for key in now["slots"]:
                assert key not in places
                assert tiles[key].backend == name
                places[key] = name
            for key in now["ready"]:
                assert (tiles[key].status, tiles[key].holder) == (S.CREATED, "")
            for key in now["started"]:
                assert tiles[key].status in {S.CREATED, *HAS_STARTED}
            for tile_id in now["waiting"]:
                waits.setdefault(f"c/{tile_id}", []).append(name)
        due = {member.decode() for member in self.store.redis.zrange(self.store.key("due"), 0, -1)}
        for key, tile in tiles.items():
            now = after[tile.backend] if tile.backend else {}
            not_stuck(tile, places.get(key), now, due=key in due, waits=waits.get(key, []))

    def within_limits(self, name: str, before: dict[str, set[str]], now: dict[str, set[str]], *, asked: bool) -> None:
        """What is given is within the limits of this moment."""
        state, control = self.store.backend(name), self.controls.get("c")
        if asked and now["started"] - before["started"]:
            assert len(now["started"]) <= state.most
        if now["slots"] - before["slots"] and not control.paused and control.pilot_upto is None:
            assert len(now["slots"]) <= state.most + state.prepared_jobs


def not_stuck(tile: Tile, place: str | None, room: dict[str, set[str]], *, due: bool, waits: list[str]) -> None:
    """Somebody will look at the tile again: when it is due, when there is room, or with the jobs of its back-end."""
    if tile.status is S.NOT_STARTED:
        assert due or waits, tile
        assert not (place and waits), tile
        assert due or not place, tile
    else:
        assert not waits, tile
        assert place == (tile.backend if tile.status in HOLDS_SLOT else None), tile
    if tile.status is S.SUBMITTING:
        assert due, tile
    if tile.status is S.CREATED:
        assert due is (tile.key not in room["ready"]), tile
    if tile.status in HAS_STARTED:
        assert tile.key in room["started"], tile


ABLE: dict[str, Any] = {
    "submit": {S.NOT_STARTED},
    "claim": {S.CREATED},
    "die": {S.SUBMITTING, S.CREATED},
    "create": {S.SUBMITTING},
    "create_started": {S.SUBMITTING},
    "start": {S.CREATED},
    "end": HAS_STARTED,
    "requeue": HOLDS_SLOT,
    "put_off": {S.CREATED},
    "cancel": set(NEXT_STEP),
    "retry": {S.CANCELED},
}
ACTS = (
    *(*["submit"] * 6, *["create"] * 6, *["claim"] * 4, *["start"] * 2, *["end"] * 2, *["wake"] * 4, *["put_off"] * 2),
    *("die", "die", "requeue", "cancel", "retry", "pause", "hold", "limit", "create_started"),
)
MOVES = st.lists(
    st.tuples(st.sampled_from(ACTS), st.integers(0, TILES - 1), st.integers(0, 7)), min_size=30, max_size=50
)


def thoroughly(draw: Callable[..., Any]) -> Any:
    return settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])(draw)


@thoroughly
@given(moves=MOVES)
def test_whatever_happens_room_is_kept_and_nobody_is_forgotten(
    store: TileStore, moves: list[tuple[str, int, int]]
) -> None:
    for key in store.redis.scan_iter(f"{store.namespace}:*"):
        store.redis.delete(key)
    backend(store, "a", 1, 0, 1)
    backend(store, "b", 2, 1, 2)
    tiles_in(store, TILES, BACKENDS)
    fleet = Fleet(store)
    for act, number, choice in moves:
        fleet.apply(act, number, choice)
