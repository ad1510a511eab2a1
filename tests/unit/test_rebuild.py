"""Where a tile is that the store knows nothing of, and which jobs nobody wants: nothing is paid for twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign.errors import InvalidInput
from campaign.failure import ErrorClass
from campaign.record import Manifest, Record
from campaign.tile import HOLDS_SLOT, Tile, TileStatus
from producer.orphans import Compared, compare
from producer.rebuild import ACTIVE, Facts, Job, Reason, choose, decide, read_jobs
from producer.runs import which_run

S = TileStatus
FACTS = Facts(max_attempts=3, now=99.0)
ORDER = ["finished", "running", "queued", "created"]


def job(status: str, attempt: int = 1, name: str = "", **words: Any) -> Job:
    known = {"backend": "b", "tile": "t", "run": "r", "created": 10.0}
    return Job(id=name or f"{status}{attempt}", status=status, attempt=attempt, **known | words)


def manifest(attempt: int = 1, job_id: str = "finished1", **words: Any) -> Manifest:
    known: dict[str, Any] = {"campaign": "c", "tile": "t", "run": "r", "attempt": attempt, "backend": "b"}
    known |= {"job_id": job_id, "items": ["t.a", "t.b"], "files": {}, "costs": 2.0, "spent": 1.0, "usage": "{}"}
    return Manifest(**known | {"finished_at": 5.0} | words)


def rebuilt(jobs: list[Job], delivered: Manifest | None = None, facts: Facts = FACTS) -> Tile:
    return decide(Tile("c", "t", order=7), choose(delivered, jobs), jobs, facts)


@pytest.mark.parametrize(
    ("jobs", "status", "job_id", "attempt"),
    [
        ([], "not_started", "", 0),
        ([job("created")], "created", "created1", 1),
        ([job("queued")], "queued", "queued1", 1),
        ([job("running")], "running", "running1", 1),
        ([job("finished")], "finished", "finished1", 1),
        ([job("canceled")], "canceled", "canceled1", 1),
        ([job("unknown")], "queued", "unknown1", 1),
        ([job("error")], "not_started", "", 1),
        ([job("error", 2), job("error", 1)], "not_started", "", 2),
        ([job("error", 3), job("error", 2)], "failed", "error3", 3),
        ([job("error", 1), job("running", 2)], "running", "running2", 2),
        ([job("finished", 1), job("error", 2)], "finished", "finished1", 2),
        ([job("running", 1), job("error", 3)], "running", "running1", 3),
        ([job("finished", 1), job("running", 2)], "running", "running2", 2),
        ([job("finished", 1), job("canceled", 2)], "canceled", "canceled2", 2),
        ([job("canceled"), job("error")], "not_started", "", 1),
        ([job("running"), job("finished")], "finished", "finished1", 1),
        ([job("running", name="x", created=3.0), job("running", name="a")], "running", "x", 1),
    ],
)
def test_a_tile_is_where_its_jobs_are(jobs: list[Job], status: str, job_id: str, attempt: int) -> None:
    for some in (jobs, jobs[::-1]):
        tile = rebuilt(some)
        assert (tile.status, tile.job_id, tile.attempt, tile.order) == (status, job_id, attempt, 7)
        assert bool(tile.backend) is bool(job_id)


def test_results_in_place_are_not_made_again() -> None:
    for jobs in ([], [job("finished")], [job("error", 2)], [job("canceled", 2)], [job("running")]):
        tile = rebuilt(jobs, manifest())
        assert (tile.status, tile.job_id, tile.items) == (S.POSTPROCESSED, "finished1", "t.a,t.b")
        assert (tile.costs, tile.spent, tile.finished_at) == (2.0, 1.0, 5.0)
        assert tile.attempt == max([1, *(job.attempt for job in jobs)])


def test_a_job_that_the_user_wanted_after_the_results_counts() -> None:
    assert rebuilt([job("finished"), job("running", 2)], manifest()).job_id == "running2"


@pytest.mark.parametrize("error_class", [ErrorClass.DATA, ErrorClass.USER_CODE])
def test_a_job_that_would_fail_again_is_not_paid_for_again(error_class: ErrorClass) -> None:
    facts = Facts(3, 99.0, reasons={"error1": Reason(error_class, "no data", 4.0)})
    tile = rebuilt([job("error")], facts=facts)
    assert (tile.status, tile.failed_step, tile.error_class) == (S.FAILED, "track", error_class)
    assert (tile.job_id, tile.costs, tile.error) == ("error1", 4.0, "no data")


def test_what_failed_attempts_cost_is_known() -> None:
    facts = Facts(
        3, 99.0, reasons={"error1": Reason(ErrorClass.JOB, "x", 4.0), "error2": Reason(ErrorClass.JOB, "y", 5.0)}
    )
    again = rebuilt([job("error"), job("error", 2)], facts=facts)
    assert (again.status, again.spent, again.costs, again.error) == (S.NOT_STARTED, 9.0, None, "y")
    runs = rebuilt([job("error"), job("error", 2), job("running", 3)], facts=facts)
    assert (runs.spent, runs.costs) == (9.0, None)


def test_what_failed_jobs_taught_is_known() -> None:
    reasons = {"error1": Reason(ErrorClass.RESOURCES, "x"), "error2": Reason(ErrorClass.JOB, "y")}
    facts = Facts(5, 99.0, ["a", "b"], 1, reasons=reasons)
    jobs = [job("error", backend="a"), job("error", 2, backend="b"), job("error", 3, backend="a")]
    tile = rebuilt(jobs, facts=facts)
    assert (tile.status, tile.attempt, tile.escalation, tile.avoid) == (S.NOT_STARTED, 3, 1, "b")
    assert rebuilt([*jobs, job("running", 4)], facts=facts).avoid == "b"


JOBS = st.lists(
    st.builds(
        job,
        st.sampled_from([*ORDER, "error", "canceled", "unknown"]),
        st.integers(1, 4),
        st.uuids().map(str),
        tile=st.sampled_from(["t0", "t1", "gone"]),
        created=st.sampled_from([0.0, 1.0, 2.0]),
        backend=st.sampled_from(["a", "b"]),
    ),
    max_size=12,
)


def rebuild_all(jobs: list[Job], *, delivered: bool) -> tuple[dict[str, Tile | None], Compared]:
    tiles: dict[str, Tile | None] = {"gone": None}
    for name in ("t0", "t1"):
        its = [one for one in jobs if one.tile == name]
        there = manifest(job_id="elsewhere") if delivered and name == "t0" else None
        tiles[name] = decide(Tile("c", name), choose(there, its), its, FACTS)
    return tiles, compare(tiles, jobs, FACTS)


@given(jobs=JOBS, delivered=st.booleans())
@settings(max_examples=400, deadline=None)
def test_no_job_is_lost_and_none_is_bought_twice(*, jobs: list[Job], delivered: bool) -> None:
    tiles, compared = rebuild_all(jobs, delivered=delivered)
    owned = [tile.job_id for tile in tiles.values() if tile is not None and tile.job_id]
    assert len(owned) == len(set(owned))
    assert not compared.adoptions
    orphans = [one.id for one in compared.orphans]
    assert not set(orphans) & set(owned)
    active = {one.id for one in jobs if one.status in ACTIVE}
    assert set(orphans) == active - set(owned)  # each job that may cost something is a tile's, or ended
    assert len(orphans) == len(set(orphans))
    for name, tile in tiles.items():
        its = [one for one in jobs if one.tile == name]
        if tile is None:
            continue
        assert tile.attempt >= max((one.attempt for one in its), default=0)  # no marker is ever used again
        good = [one for one in its if one.good]
        newest = max((one.attempt for one in its), default=0)
        if good:
            assert tile.status is not S.NOT_STARTED
        if any(one.attempt == newest for one in good):
            assert tile.status not in {S.FAILED, S.CANCELED}
        if tile.status in HOLDS_SLOT:
            assert tile.backend
            assert tile.job_id


@given(jobs=JOBS, delivered=st.booleans(), random=st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_list_does_not_matter(*, jobs: list[Job], delivered: bool, random: Any) -> None:
    before = rebuild_all(jobs, delivered=delivered)[0]
    random.shuffle(jobs)
    assert rebuild_all(jobs, delivered=delivered)[0] == before


def in_store(status: TileStatus, **words: Any) -> Tile:
    return Tile("c", "t", status=status, **words)


@pytest.mark.parametrize(
    ("tile", "jobs", "adopted", "orphans"),
    [
        (None, [job("running"), job("finished"), job("error")], "", ["running1"]),
        (in_store(S.RUNNING, attempt=1, job_id="running1"), [job("running")], "", []),
        (in_store(S.RUNNING, attempt=1, job_id="x"), [job("running")], "", ["running1"]),
        (in_store(S.RUNNING, attempt=2, job_id="x"), [job("running"), job("error")], "", ["running1"]),
        (in_store(S.RUNNING, attempt=2, job_id="x", holder="w"), [job("created")], "", ["created1"]),
        (in_store(S.SUBMITTING, attempt=1), [job("running")], "running1", []),
        (in_store(S.SUBMITTING, attempt=1), [job("running"), job("created")], "running1", []),
        (in_store(S.SUBMITTING, attempt=1, holder="w"), [job("running")], "", []),
        (in_store(S.SUBMITTING, attempt=1), [job("error")], "", []),
        (in_store(S.SUBMITTING, attempt=2), [job("running", 1)], "", ["running1"]),
        (in_store(S.NOT_STARTED, attempt=0), [job("finished")], "finished1", []),
        (in_store(S.NOT_STARTED, attempt=1), [job("error")], "", []),
        (in_store(S.NOT_STARTED, attempt=1, attempts_before=1), [job("finished")], "", []),
        (in_store(S.NOT_STARTED, attempt=1, attempts_before=1), [job("running")], "running1", []),
        (in_store(S.FAILED, attempt=1, failed_step="submit"), [job("running")], "running1", []),
        (in_store(S.FAILED, attempt=1, failed_step="track", job_id="x"), [job("running")], "", ["running1"]),
        (in_store(S.CANCELED, attempt=1), [job("created")], "", ["created1"]),
        (in_store(S.CANCELED, attempt=1, job_id="running1"), [job("running")], "", []),
        (in_store(S.PUBLISHED, attempt=1, job_id="x"), [job("finished"), job("error")], "", []),
        (in_store(S.RUNNING, attempt=2, job_id="running1"), [job("running")], "", []),
    ],
)
def test_jobs_are_compared_with_tiles(tile: Tile | None, jobs: list[Job], adopted: str, orphans: list[str]) -> None:
    compared = compare({"t": tile}, jobs, FACTS)
    assert [adoption.job.id for adoption in compared.adoptions] == ([adopted] if adopted else [])
    assert [one.id for one in compared.orphans] == orphans
    for adoption in compared.adoptions:
        assert adoption.after.job_id == adopted
        assert [one.id for one in adoption.others] == [one.id for one in jobs if one.active and one.id != adopted]


def test_an_adopted_tile_forgets_its_failure_and_keeps_what_it_spent() -> None:
    tile = in_store(S.FAILED, attempt=4, attempts_before=3, spent=7.0, failed_step="submit", error="x", tries=8)
    (adoption,) = compare({"t": tile}, [job("running", 4)], FACTS).adoptions
    after = adoption.after
    assert (after.status, after.attempt, after.attempts_before, after.spent) == (S.RUNNING, 4, 3, 7.0)
    assert (after.failed_step, after.error, after.tries) == ("", "", 0)


def listed(name: str, title: str, **words: Any) -> dict[str, Any]:
    return {"id": name, "status": "running", "title": title, "created": None} | words


def test_jobs_are_read_from_their_titles() -> None:
    jobs = read_jobs(
        {
            "a": [
                listed("1", "NDVI [fleet:c/t.1-x/2 abc]", created=5.0, costs=2, usage={"cpu": 1}),
                listed("2", "[fleet:other/t/2 abc] [fleet:c/u/1 abc]"),
                listed("3", "[fleet:c/u/1 abc] [fleet:other/t/2 abc]"),
                listed("4", "[fleet:c/u] ndvi"),
                listed("5", "[fleet:c/../1 abc]"),
            ]
        },
        "c",
    )
    assert [(one.id, one.tile, one.attempt, one.run) for one in jobs] == [
        ("1", "t.1-x", 2, "abc"),
        ("2", "u", 1, "abc"),
    ]
    assert (jobs[0].created, jobs[0].costs, jobs[0].usage) == (5.0, 2.0, '{"cpu": 1}')


def test_a_job_that_two_back_ends_list_is_one() -> None:
    title = "[fleet:c/t/1 abc]"
    jobs = read_jobs({"a": [listed("cdse-j-1", title)], "b": [listed("j-1", title), listed("j-2", title)]}, "c")
    assert [one.id for one in jobs] == ["cdse-j-1", "j-2"]
    assert len(read_jobs({"a": [listed("j-1", title)], "b": [listed("j-1", title)]}, "c")) == 1


RECORD = Record("c", "r1", "digest", 1.0, {})


def test_the_run_is_the_record_s_or_the_only_one() -> None:
    assert which_run("c", RECORD, [job("running", run="r2")], []) == "r1"
    assert which_run("c", None, [job("running", run="r2")], []) == "r2"
    assert which_run("c", None, [], [manifest(run="r3")]) == "r3"
    assert which_run("c", None, [job("running", run="r2"), job("running", run="r3")], [], "r3") == "r3"


@pytest.mark.parametrize(
    ("record", "runs", "wanted", "said"),
    [
        (RECORD, ["r1"], "r2", "says that it is run r1"),
        (None, [], "", "there is nothing to recover"),
        (None, ["r1"], "r2", r"no jobs or results of it; there are: r1 \(1 jobs of 1970-01-01 00:00 UTC, 0 results\)"),
        (None, ["r1", "r2", "r2"], "", r"r2 \(2 jobs of .*\); r1 \(1 jobs .*choose one with --run ID"),
    ],
)
def test_a_run_that_is_not_certain_is_refused(record: Record | None, runs: list[str], wanted: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        which_run("c", record, [job("running", run=run) for run in runs], [], wanted)
