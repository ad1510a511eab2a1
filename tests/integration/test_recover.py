"""A campaign whose Redis is gone comes back as it was; jobs that no tile owns are found."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from campaign.errors import FleetError, InvalidInput
from campaign.spec import load_campaign
from campaign.tile import HOLDS_SLOT, Tile, TileStatus
from producer import recover as recovering
from producer import report
from producer.enqueue import enqueue
from producer.recover import Recovered, Wishes, recover
from producer.session import Opened
from workers import backend as backends
from workers.inventory import all_jobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from campaign.store import TileStore
    from tests.integration.conftest import Fleet

S = TileStatus
GRAPH: dict[str, Any] = {"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}


def wipe(store: TileStore) -> None:
    if keys := list(store.redis.scan_iter(f"{store.namespace}:*", count=10_000)):
        store.redis.delete(*keys)


def back(fleet: Fleet, run: str = "", *, keep_orphans: bool = False, **urls: str) -> Recovered:
    file = load_campaign(fleet.path, urls=urls)
    opened = Opened(fleet.store, fleet.settings.redis_url)
    return recover(file, opened, fleet.settings.workdir, Wishes(run, keep_orphans, settle=0.0), lambda _: None)


def lines(fleet: Fleet, done: Recovered) -> list[str]:
    return list(report.recovered(fleet.store, done, kept=False))


def spent(fleet: Fleet) -> tuple[float, int]:
    control = fleet.store.control(fleet.name)
    return control.spent, control.jobs_paid


def slots(fleet: Fleet, what: str = "slots") -> set[str]:
    found = fleet.store.redis.smembers(fleet.store.key("b", "local", what))
    return {member.decode().split("/")[1] for member in found}


def waiting(fleet: Fleet) -> set[str]:
    found = fleet.store.redis.zrange(fleet.store.key("b", "local", "waiting", fleet.name), 0, -1)
    return {tile_id.decode() for tile_id in found}


def create(fleet: Fleet, tile_id: str, attempt: int = 1, *, start: bool = False, **words: str) -> str:
    """A job of a tile that no worker recorded."""
    connection = fleet.context.connection("local")
    marker = Tile(fleet.name, tile_id, attempt=attempt).marker(words.get("run") or fleet.meta.run)
    job = connection.create_job(GRAPH, title=f"{words.get('title', 'x')} {marker}")
    if start:
        job.start()
    return str(job.job_id)


def to_the_end(fleet: Fleet) -> None:
    for _ in range(40):
        for status in (S.NOT_STARTED, S.CREATED, S.QUEUED, S.RUNNING, S.FINISHED, S.POSTPROCESSED):
            for tile in list(fleet.store.tiles(fleet.name, status)):
                fleet.step(tile.id)
        if not any(fleet.tile(f"t{n}").next_step for n in range(fleet.meta.total)):
            return
    pytest.fail(str(fleet.store.counts(fleet.name)))


def comes_to(fleet: Fleet, status: TileStatus) -> None:
    """Bring t0 to `status`."""
    if status is S.CREATED:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backends, "start", refuse)
            fleet.step()
    elif status in {S.QUEUED, S.RUNNING}:
        fleet.sandbox.behave(**{"queue_seconds" if status is S.QUEUED else "job_seconds": 60.0})
        fleet.step()
        fleet.job_is("t0", status.value)
        if status is S.RUNNING:
            fleet.step()
    elif status is not S.NOT_STARTED:
        fleet.finished()
        while fleet.tile().status is not status:
            fleet.step()
    assert fleet.tile().status is status


def refuse(*_: Any) -> None:
    raise requests.ConnectionError("Max retries exceeded (Caused by NewConnectionError('refused'))")


@pytest.mark.parametrize(
    "status", [S.NOT_STARTED, S.CREATED, S.QUEUED, S.RUNNING, S.FINISHED, S.POSTPROCESSED, S.PUBLISHED]
)
def test_a_campaign_comes_back_as_it_was(fleet: Fleet, status: TileStatus) -> None:
    comes_to(fleet, status)
    before, meta, paid = fleet.tile(), fleet.meta, spent(fleet)
    wipe(fleet.store)
    done = back(fleet)
    assert done.rebuilt
    assert fleet.meta == meta
    assert spent(fleet) == paid
    tile = fleet.tile()
    assert tile.status is (S.POSTPROCESSED if status is S.PUBLISHED else status)
    assert (tile.job_id, tile.attempt, tile.order) == (before.job_id, before.attempt, before.order)
    assert (tile.items, tile.costs, tile.usage) == (before.items, before.costs, before.usage)
    assert slots(fleet) == ({"t0"} if status in HOLDS_SLOT else set())
    assert slots(fleet, "started") == ({"t0"} if status in {S.QUEUED, S.RUNNING} else set())
    assert fleet.store.redis.zcard(fleet.store.key("b", "local", "ready")) == (status is S.CREATED)
    assert waiting(fleet) == {"t1", "t2"} | ({"t0"} if status is S.NOT_STARTED else set())
    assert done.adopted == (status in {S.CREATED, S.QUEUED, S.RUNNING, S.FINISHED})
    assert not done.orphans
    if status is S.RUNNING:
        return  # for a minute
    fleet.sandbox.behave(queue_seconds=0.0)
    to_the_end(fleet)
    assert fleet.store.counts(fleet.name) == {S.PUBLISHED: 3}
    assert len(fleet.jobs()) == 3


def test_what_was_delivered_is_not_fetched_again(fleet: Fleet) -> None:
    comes_to(fleet, S.PUBLISHED)
    manifest = fleet.folder / "t0" / "tile.json"
    kept = json.loads(manifest.read_text())
    assert kept["files"] == {path.name: path.stat().st_size for path in manifest.parent.iterdir() if path != manifest}
    connection = fleet.context.connection("local")
    connection.job(fleet.tile().job_id).delete()  # long ago
    wipe(fleet.store)
    assert back(fleet).rebuilt
    assert fleet.tile().status is S.POSTPROCESSED
    to_the_end(fleet)
    assert len(fleet.jobs("t0")) == 0


def test_a_delivery_that_was_cut_off_is_made_again(fleet: Fleet) -> None:
    comes_to(fleet, S.POSTPROCESSED)
    path = next(path for path in (fleet.folder / "t0").iterdir() if path.suffix != ".json")
    path.write_bytes(path.read_bytes()[:-1])
    wipe(fleet.store)
    back(fleet)
    assert fleet.tile().status is S.FINISHED
    to_the_end(fleet)
    assert len(fleet.jobs()) == 3


def test_a_delivery_that_begins_takes_the_manifest_away(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    comes_to(fleet, S.POSTPROCESSED)
    fleet.store.transition(fleet.tile(), S.FAILED, failed_step="publish")
    fleet.store.transition(fleet.tile(), S.FINISHED, failed_step="")
    monkeypatch.setattr(backends, "download", refuse)
    fleet.step()
    assert not (fleet.folder / "t0" / "tile.json").exists()


def test_failed_jobs_are_counted_and_their_reasons_told(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=4, max_attempts=2)
    for tile_id, code, attempts in (("t0", "OOM", 1), ("t1", "OOM", 2), ("t2", "NoDataAvailable", 1)):
        for attempt in range(1, attempts + 1):
            create(fleet, tile_id, attempt, start=True, title=f"fail:{code}")
            fleet.job_is(tile_id, "error")
    wipe(fleet.store)
    back(fleet)
    again, used_up, no_data = (fleet.tile(f"t{number}") for number in range(3))
    assert (again.status, again.attempt, again.job_id, again.error_class) == (S.NOT_STARTED, 1, "", "resources")
    assert (used_up.status, used_up.attempt, used_up.failed_step) == (S.FAILED, 2, "track")
    assert (no_data.status, no_data.error_class) == (S.FAILED, "data")
    assert "no data available" in no_data.error
    assert [entry["attempt"] for entry in fleet.store.history(fleet.name, "t1")] == [1, 2]
    to_the_end(fleet)
    assert [fleet.tile(f"t{number}").status for number in range(4)] == [S.PUBLISHED, S.FAILED, S.FAILED, S.PUBLISHED]
    assert fleet.tile().attempt == 2


def test_of_two_jobs_one_is_ended(fleet: Fleet) -> None:
    fleet.sandbox.behave(job_seconds=60.0)
    fleet.step()
    owned = fleet.job_is("t0", "running")["id"]
    left = create(fleet, "t0")
    second = create(fleet, "t1", start=True)
    gone = create(fleet, "no-such-tile", start=True)
    other = create(fleet, "t2", run="beef")
    wipe(fleet.store)
    done = back(fleet, keep_orphans=True)
    assert (fleet.tile().job_id, fleet.tile("t1").job_id) == (owned, second)
    assert {job.id for job in done.orphans} == {left, gone}
    assert {job["id"] for job in fleet.jobs()} == {owned, left, second, gone, other}
    done = back(fleet)
    assert not done.rebuilt
    assert {job.id for job in done.orphans} == {left, gone}
    assert done.others == {"beef": 1}
    assert {job["id"]: job["status"] for job in fleet.jobs() if job["id"] not in {owned, second}} == {
        gone: "canceled",
        other: "created",
    }
    assert "2 orphans, 1 canceled, 1 deleted" in lines(fleet, done)[2]
    assert not back(fleet).orphans


def test_killed_in_the_middle_it_goes_on(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    comes_to(fleet, S.FINISHED)
    wipe(fleet.store)
    with monkeypatch.context() as patch:
        patch.setattr(type(fleet.store), "put_campaign", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            back(fleet)
    with pytest.raises(InvalidInput, match="was run before"):
        enqueue(load_campaign(fleet.path), fleet.store, fleet.settings.redis_url, fleet.settings.workdir)
    assert back(fleet).rebuilt
    to_the_end(fleet)
    assert len(fleet.jobs()) == 3


def test_a_job_that_appears_late_is_waited_for(fleet: Fleet) -> None:
    meta = fleet.meta
    wipe(fleet.store)
    fleet.store.put_backend("local", load_campaign(fleet.path).backends[0].model_dump(exclude_none=True))
    late: list[str] = []

    def told(line: str) -> None:
        assert "a back-end may still be making a job" in line
        late.append(create(fleet, "t1", start=True, run=meta.run))

    opened = Opened(fleet.store, fleet.settings.redis_url)
    recover(load_campaign(fleet.path), opened, fleet.settings.workdir, Wishes(settle=15.0), told)
    assert [fleet.tile("t1").job_id] == late


def test_run_is_refused_where_a_record_is(fleet: Fleet) -> None:
    comes_to(fleet, S.POSTPROCESSED)
    wipe(fleet.store)
    before = len(fleet.jobs())
    with pytest.raises(InvalidInput) as told:
        enqueue(load_campaign(fleet.path), fleet.store, fleet.settings.redis_url, fleet.settings.workdir)
    for word in ("was run before", "1 tiles have their results", f"openeo-fleet recover {fleet.path}", "another name"):
        assert word in str(told.value)
    assert list(fleet.store.redis.scan_iter(f"{fleet.store.namespace}:*")) == []
    assert len(fleet.jobs()) == before


def test_without_a_record_the_jobs_say_which_run_it_was(fleet: Fleet) -> None:
    run = fleet.meta.run
    create(fleet, "t0", start=True)
    record = fleet.folder / "campaign.json"
    assert json.loads(record.read_text())["run"] == run
    record.unlink()
    wipe(fleet.store)
    assert back(fleet).meta.run == run
    assert json.loads(record.read_text())["run"] == run
    create(fleet, "t1", run="beef")
    record.unlink()
    wipe(fleet.store)
    with pytest.raises(InvalidInput, match="jobs of several runs"):
        back(fleet)
    assert back(fleet, run).meta.run == run


@pytest.mark.parametrize("tiles", [2, 4])
def test_another_table_is_refused(fleet: Fleet, write_campaign: Callable[..., Path], tiles: int) -> None:
    wipe(fleet.store)
    fleet.path = write_campaign(name=fleet.name, tiles=tiles)
    with pytest.raises(InvalidInput, match="is not the one it was enqueued with"):
        back(fleet)


def test_back_ends_that_had_jobs_have_to_be_asked(fleet: Fleet, write_campaign: Callable[..., Path]) -> None:
    wipe(fleet.store)
    url = fleet.sandbox.url
    fleet.path = write_campaign(name=fleet.name, backends=[{"name": "second", "url": url, "auth": "basic"}])
    with pytest.raises(InvalidInput, match=r"had jobs on back-end local .* which is missing"):
        back(fleet)
    elsewhere = url.replace("127.0.0.1", "localhost")
    fleet.path = write_campaign(name=fleet.name, backends=[{"name": "local", "url": elsewhere, "auth": "basic"}])
    with pytest.raises(InvalidInput, match=f"--backend local={elsewhere} if it is the same"):
        back(fleet)
    assert back(fleet, local=elsewhere).rebuilt


def test_a_back_end_that_does_not_tell_stops_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    wipe(fleet.store)
    monkeypatch.setenv("FLEET_LOCAL_PASSWORD", "wrong")
    with pytest.raises(FleetError, match="cannot log in"):
        back(fleet)
    assert list(fleet.store.redis.scan_iter(f"{fleet.store.namespace}:*")) == []


def test_a_known_campaign_gets_back_the_job_it_lost(fleet: Fleet) -> None:
    tile = fleet.store.claim(fleet.tile(), 60, S.SUBMITTING, room="take", backends=["local"], attempt=1)
    lost = create(fleet, "t0", start=True)
    fleet.job_is("t0", "finished")
    assert back(fleet).adopted == 0  # a worker holds it
    assert fleet.tile() == tile
    fleet.store.transition(tile, S.SUBMITTING, due=600)
    done = back(fleet)
    assert (done.adopted, done.sent, done.rebuilt) == (1, 1, False)
    assert (fleet.tile().status, fleet.tile().job_id) == (S.FINISHED, lost)
    assert slots(fleet) == set()
    assert fleet.store.tile_ids(fleet.name, S.SUBMITTING) == []
    to_the_end(fleet)
    assert len(fleet.jobs()) == 3


def test_a_tile_that_moved_meanwhile_is_not_touched(fleet: Fleet) -> None:
    before = fleet.tile()
    fleet.store.claim(before, 60, S.SUBMITTING, room="take", backends=["local"], attempt=1)
    after = before.evolve(status=S.RUNNING, attempt=1, job_id="j", backend="local")
    now = fleet.tile()
    assert not fleet.store.adopt(before, after)
    assert not fleet.store.adopt(replace(now, holder=""), after)
    assert fleet.tile() == now


def test_a_job_that_failed_meanwhile_is_not_adopted(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.sandbox.behave(job_seconds=60.0)
    fleet.step()
    job_id = fleet.job_is("t0", "running")["id"]
    stale = recovering.list_jobs(load_campaign(fleet.path).backends, fleet.name)
    fleet.context.connection("local").job(job_id).delete()
    fleet.step()
    assert (fleet.tile().status, fleet.tile().attempt) == (S.NOT_STARTED, 1)
    monkeypatch.setattr(recovering, "list_jobs", lambda *_: stale)
    done = back(fleet)
    assert (done.adopted, done.orphans) == (0, ())
    assert fleet.tile().status is S.NOT_STARTED


def test_a_known_campaign_without_lost_jobs_stays_as_it_is(fleet: Fleet) -> None:
    fleet.finished()
    fleet.step("t1")
    before = [fleet.tile(f"t{number}") for number in range(3)]
    done = back(fleet)
    assert (done.adopted, done.orphans, done.problems) == (0, (), ())
    assert [fleet.tile(f"t{number}") for number in range(3)] == before


def test_all_jobs_are_listed_whatever_the_pages_are(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        create(fleet, f"t{number % 3}", number + 1)
    connection = fleet.context.connection("local")
    expected = {job["id"] for job in fleet.jobs()}
    monkeypatch.setattr("workers.inventory.PAGE", 2)
    assert expected <= {job["id"] for job in all_jobs(connection)}
    fleet.sandbox.behave(ignore_limit=True)
    assert expected <= {job["id"] for job in all_jobs(connection)}


class Pages:
    """A back-end whose list of jobs has these pages."""

    def __init__(self, *pages: list[str], most: int = 5000) -> None:
        self.pages, self.most = pages, most

    def get(self, url: str, params: dict[str, int] | None = None) -> Pages:
        if params and params["limit"] > self.most:
            raise backends.OpenEoApiError(http_status_code=400, code="BadRequest", message="limit")
        self.number = 0 if url == "/jobs" else int(url)
        return self

    def json(self) -> dict[str, Any]:
        links = [{"rel": "next", "href": str(self.number + 1)}] if self.number + 1 < len(self.pages) else []
        return {"jobs": [{"id": job_id} for job_id in self.pages[self.number]], "links": links}


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        (Pages(["a", "b"], ["b", "c"], [], ["d"]), ["a", "b", "c", "d"]),
        (Pages(["a"], ["a"], ["b"]), ["a"]),
        (Pages(["a"], ["b"], most=100), ["a", "b"]),
    ],
)
def test_strange_pages(pages: Any, found: list[str]) -> None:
    assert [job["id"] for job in all_jobs(pages)] == found
