"""postprocess: results come into place whole, each with a valid item, or the tile says why not."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from openeo.rest import OpenEoApiPlainError

from campaign.errors import TransitionLost
from campaign.failure import ErrorClass
from campaign.tile import Step, TileStatus
from workers import backend
from workers.failures import classify
from workers.postprocess import postprocess
from workers.schemas import validate_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.conftest import Fleet

S = TileStatus


def files(fleet: Fleet, tile_id: str = "t0") -> list[str]:
    return sorted(path.name for path in (fleet.folder / tile_id).iterdir()) if (fleet.folder / tile_id).exists() else []


def item(fleet: Fleet, name: str = "t0.openEO", tile_id: str = "t0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((fleet.folder / tile_id / f"{name}.stac.json").read_text())
    return found


def test_the_asset_is_in_place_with_a_valid_item_beside_it(fleet: Fleet) -> None:
    finished = fleet.finished()
    (message,) = fleet.step()
    assert (message.task, dict(message.kwargs)) == (Step.PUBLISH, {"campaign": fleet.name, "tile": "t0"})
    tile = fleet.tile()
    assert (tile.status, tile.items, tile.holder, tile.error) == (S.POSTPROCESSED, "t0.openEO", "", "")
    assert files(fleet) == ["openEO.nc", "t0.openEO.stac.json", "tile.json"]
    found = item(fleet)
    validate_item(found)
    (asset,) = found["assets"].values()
    content = (fleet.folder / "t0" / "openEO.nc").read_bytes()
    assert asset["href"] == "openEO.nc"
    assert asset["file:size"] == len(content)
    assert asset["file:checksum"] == f"1220{hashlib.sha256(content).hexdigest()}"
    assert found["collection"] == fleet.name
    assert found["properties"]["fleet:tile"] == "t0"
    assert found["properties"]["start_datetime"] == "2024-05-01T00:00:00Z"
    assert found["properties"]["end_datetime"] == "2024-06-01T00:00:00Z"
    assert found["bbox"] == pytest.approx([4, 51, 4.1, 51.1], abs=0.01)
    (via,) = [link for link in found["links"] if link["rel"] == "via"]
    assert via["href"] == f"{fleet.sandbox.url}/jobs/{finished.job_id}"
    (provider,) = found["properties"]["providers"]
    assert "load" in provider["processing:expression"]["expression"]


def test_costs_and_usage_are_kept(fleet: Fleet) -> None:
    fleet.finished()
    fleet.step()
    tile = fleet.tile()
    job = fleet.context.connection("local").job(tile.job_id).describe()
    assert tile.costs == job["costs"] > 0
    assert json.loads(tile.usage) == job["usage"]


def test_a_repeat_gives_the_same(fleet: Fleet) -> None:
    finished = fleet.finished()
    fleet.step()
    first = {name: (fleet.folder / "t0" / name).read_bytes() for name in files(fleet)}
    fleet.store.transition(fleet.tile(), S.FAILED, failed_step="publish")
    again = fleet.store.transition(fleet.tile(), S.FINISHED)
    postprocess(fleet.context, again)
    assert {name: (fleet.folder / "t0" / name).read_bytes() for name in files(fleet)} == first
    assert (fleet.tile().status, fleet.tile().job_id) == (S.POSTPROCESSED, finished.job_id)


def test_a_second_delivery_while_it_is_held_does_nothing(fleet: Fleet) -> None:
    tile = fleet.finished()
    held = fleet.store.claim(tile, 60)
    fleet.sandbox.clear_stats()
    with pytest.raises(TransitionLost):
        postprocess(fleet.context, tile)
    assert fleet.sandbox.stats()["requests"] == {}
    assert fleet.tile() == held
    assert files(fleet) == []


def test_a_tile_canceled_meanwhile_stays_canceled(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.finished()
    fetch = backend.results

    def results(*words: Any) -> Any:
        fleet.store.transition(fleet.tile(), S.CANCELED, anyone=True, room="free")
        return fetch(*words)

    monkeypatch.setattr("workers.backend.results", results)
    with pytest.raises(TransitionLost):
        fleet.step()
    assert fleet.tile().status is S.CANCELED


@pytest.mark.parametrize("form", ["files", "none", "grouped", "feature"])
def test_each_form_of_results(fleet: Fleet, form: str) -> None:
    fleet.finished()
    fleet.sandbox.behave(items=form)
    fleet.step()
    assert fleet.tile().status is S.POSTPROCESSED
    assert files(fleet) == ["openEO.nc", "t0.openEO.stac.json", "tile.json"]
    validate_item(item(fleet))
    assert item(fleet)["geometry"] is not None
    assert item(fleet)["properties"]["end_datetime"] == "2024-06-01T00:00:00Z"


TROUBLE: dict[str, dict[str, Any]] = {
    "connection closed half-way": {"broken_downloads": 1.0},
    "half a file that looks whole": {"short_downloads": 1.0},
    "signed and half a file": {"short_downloads": 1.0, "signed_urls": True},
    "expired URL": {"signed_urls": True, "url_seconds": -1.0},
    "expired URL of an object store": {"signed_urls": True, "url_seconds": -1.0, "expired_url_status": 403},
    "server error": {"server_errors": 1.0, "server_error_status": 500},
}


@pytest.mark.parametrize("name", TROUBLE)
def test_a_download_that_goes_wrong_is_tried_again(fleet: Fleet, name: str) -> None:
    finished = fleet.finished()
    fleet.sandbox.behave(**TROUBLE[name])
    assert fleet.step() == []
    tile = fleet.tile()
    assert (tile.status, tile.tries, tile.error_class, tile.holder) == (S.FINISHED, 1, "transient", "")
    due = fleet.due_in()
    assert due is not None
    assert 0.5 < due <= 2
    assert not [name for name in files(fleet) if not name.startswith(".")]
    assert files(fleet) == []
    fleet.sandbox.reset(fast=True)
    fleet.is_due()
    fleet.tick()
    tile = fleet.tile()
    assert (tile.status, tile.error, tile.tries, tile.job_id) == (S.PUBLISHED, "", 0, finished.job_id)
    assert files(fleet) == ["openEO.nc", "t0.openEO.stac.json", "tile.json"]


@pytest.mark.parametrize("status", [502, 504])
def test_an_outage_pauses_the_back_end_in_the_end(fleet: Fleet, status: int) -> None:
    fleet.finished()
    fleet.sandbox.behave(server_errors=1.0, server_error_status=status)
    for _ in range(3):
        assert not fleet.store.backend("local").paused
        assert fleet.step() == []
        tile = fleet.tile()
        assert (tile.status, tile.error_class) == (S.FINISHED, "outage")
        assert tile.tries <= 2
    state = fleet.store.backend("local")
    assert state.paused_until - fleet.store.now() == pytest.approx(5, abs=1)
    fleet.sandbox.reset(fast=True)
    fleet.sandbox.clear_stats()
    assert fleet.step() == []
    assert fleet.sandbox.stats()["requests"] == {}
    due = fleet.due_in()
    assert due is not None
    assert 3 < due <= 7
    fleet.unpause()
    fleet.step()
    assert fleet.tile().status is S.POSTPROCESSED


def test_results_are_fetched_while_credits_are_missing(fleet: Fleet) -> None:
    fleet.finished()
    fleet.context.pauses.pause("local", 600, "payment: none left", what="starts")
    fleet.step()
    assert fleet.tile().status is S.POSTPROCESSED


@pytest.mark.parametrize("reason", ["capacity: too many", "auth: refused", "outage: away"])
def test_nothing_is_fetched_while_the_back_end_is_paused(fleet: Fleet, reason: str) -> None:
    before = fleet.finished()
    fleet.context.pauses.pause("local", 60, reason)
    fleet.sandbox.clear_stats()
    assert fleet.step() == []
    assert fleet.sandbox.stats()["requests"] == {}
    assert fleet.tile() == before
    due = fleet.due_in()
    assert due is not None
    assert 55 < due <= 62


def test_a_refusal_of_another_kind_is_tried_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a proxy thinks: nobody's code is to blame, and the job is paid for."""

    def results(*_: Any) -> Any:
        raise OpenEoApiPlainError(message="<html></html>", http_status_code=451)

    monkeypatch.setattr("workers.backend.results", results)
    fleet.finished()
    fleet.step()
    assert (fleet.tile().status, fleet.tile().error_class, fleet.tile().tries) == (S.FINISHED, "transient", 1)


def test_a_bug_fails_the_tile_with_its_traceback(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def build_item(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("workers.postprocess.build_item", build_item)
    fleet.finished()
    fleet.step()
    tile = fleet.tile()
    assert (tile.status, tile.failed_step, tile.error_class) == (S.FAILED, "postprocess", "unexpected")
    assert "in build_item" in tile.error
    assert files(fleet) == []


def test_what_a_killed_worker_left_is_swept(fleet: Fleet) -> None:
    fleet.finished()
    (fleet.folder / "t0").mkdir(parents=True)
    (fleet.folder / "t0" / ".part-deadbeef-openEO.nc").write_bytes(b"half")
    fleet.step()
    assert files(fleet) == ["openEO.nc", "t0.openEO.stac.json", "tile.json"]


def test_signed_urls(fleet: Fleet) -> None:
    fleet.finished()
    fleet.sandbox.behave(signed_urls=True)
    fleet.step()
    assert fleet.tile().status is S.POSTPROCESSED
    assert "signature" not in json.dumps(item(fleet))


def test_a_429_pauses_the_back_end_and_keeps_the_tile(fleet: Fleet) -> None:
    fleet.finished()
    fleet.sandbox.behave(rate_limit=0.001)
    fleet.step()
    fleet.step()
    assert (fleet.tile().status, fleet.tile().tries) == (S.FINISHED, 0)
    assert fleet.store.backend("local").paused_reason.startswith("capacity: ")


def test_a_file_without_a_size_that_was_cut_is_noticed_by_reading_it(fleet: Fleet) -> None:
    fleet.finished()
    fleet.sandbox.behave(short_downloads=1.0, file_sizes=False)
    fleet.step()
    assert fleet.tile().status in {S.FINISHED, S.FAILED}
    assert files(fleet) == []


def test_a_checksum_tells_of_a_file_that_was_cut(fleet: Fleet) -> None:
    fleet.finished()
    content = b"date,band\n" + b"2024-05-01,1\n" * 100
    checksum = f"1220{hashlib.sha256(content).hexdigest()}"
    fleet.results("t0", {"timeseries.csv": content}, checksum=checksum)
    fleet.sandbox.behave(short_downloads=1.0, file_sizes=False, checksums=True)
    fleet.step()
    assert (fleet.tile().status, fleet.tile().error_class) == (S.FINISHED, "transient")


def test_a_damaged_result_is_fetched_again_and_then_fails(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.setbacks.MAX_TRIES", 2)
    fleet.finished()
    fleet.results("t0", {"openEO.nc": b"\x89HDF\r\n\x1a\n" + b"no" * 500})
    fleet.step()
    tile = fleet.tile()
    assert (tile.status, tile.error_class) == (S.FINISHED, "transient")
    assert "openEO.nc" in tile.error
    assert files(fleet) == []
    fleet.step()
    tile = fleet.tile()
    assert (tile.status, tile.failed_step, tile.error_class) == (S.FAILED, "postprocess", "transient")
    assert fleet.store.history(fleet.name, "t0")[-1]["step"] == "postprocess"


def test_an_empty_result_file(fleet: Fleet) -> None:
    fleet.finished()
    fleet.results("t0", {"openEO.tif": b""})
    fleet.step()
    assert "empty" in fleet.tile().error
    assert files(fleet) == []


def test_a_result_without_files_fails_the_tile(fleet: Fleet) -> None:
    fleet.finished()
    fleet.results("t0", {})
    fleet.step()
    tile = fleet.tile()
    assert (tile.status, tile.failed_step, tile.error_class) == (S.FAILED, "postprocess", "data")
    assert f"job {tile.job_id} finished without any results" in tile.error


def test_a_job_whose_results_are_gone_fails_the_tile(fleet: Fleet) -> None:
    tile = fleet.finished()
    fleet.context.connection("local").job(tile.job_id).delete()
    fleet.step()
    tile = fleet.tile()
    assert (tile.status, tile.failed_step, tile.error_class) == (S.FAILED, "postprocess", "job")
    assert "JobNotFound" in tile.error
    assert tile.tries == 1


def test_a_file_without_a_place_gets_that_of_the_tile(fleet: Fleet) -> None:
    fleet.finished()
    fleet.results("t0", {"timeseries.csv": b"date,band\n2024-05-01,1\n"})
    fleet.step()
    assert fleet.tile().status is S.POSTPROCESSED
    found = item(fleet, "t0.timeseries")
    assert found["bbox"] == pytest.approx([4, 51, 4.1, 51.1])
    assert found["assets"]["data"]["type"] == "text/csv"


def test_a_file_without_a_place_gets_that_of_the_tile_in_degrees(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(crs=32631)
    fleet.finished()
    fleet.results("t0", {"timeseries.csv": b"date,band\n2024-05-01,1\n"})
    fleet.step()
    assert fleet.tile().status is S.POSTPROCESSED
    assert item(fleet, "t0.timeseries")["bbox"] == pytest.approx([4, 51, 4.1, 51.1], abs=0.01)


def test_several_files_make_several_items(fleet: Fleet) -> None:
    fleet.finished()
    fleet.results("t0", {"a.csv": b"a\n1\n", "b.csv": b"b\n2\n"})
    fleet.step()
    assert fleet.tile().items == "t0.a,t0.b"
    assert files(fleet) == ["a.csv", "b.csv", "t0.a.stac.json", "t0.b.stac.json", "tile.json"]


def test_files_that_differ_in_their_suffix_only_make_an_item_each(fleet: Fleet) -> None:
    fleet.finished()
    fleet.results("t0", {"stats.csv": b"a\n1\n", "stats.json": b'{"a": 1}'})
    fleet.step()
    ids = fleet.tile().items.split(",")
    assert len(set(ids)) == 2
    assert {asset["href"] for name in ids for asset in item(fleet, name)["assets"].values()} == {
        "stats.csv",
        "stats.json",
    }


@pytest.mark.parametrize("names", [("é.csv", "è.csv"), ("a b.csv", "a_b.csv"), ("a+b.csv", "a&b.csv")])
def test_files_whose_safe_names_are_the_same_are_all_kept(fleet: Fleet, names: tuple[str, str]) -> None:
    fleet.finished()
    fleet.results("t0", {name: f"{number}\n".encode() for number, name in enumerate(names)})
    fleet.step()
    assert fleet.tile().status is S.POSTPROCESSED
    contents = {path.read_bytes() for path in (fleet.folder / "t0").glob("*.csv")}
    assert contents == {b"0\n", b"1\n"}


def test_an_asset_named_to_leave_the_folder_stays_in_it(fleet: Fleet) -> None:
    fleet.finished()
    fleet.results("t0", {"..%2f..%2fevil.csv": b"x\n1\n"})
    fleet.step()
    assert fleet.tile().status is S.POSTPROCESSED
    outside = [path for path in fleet.settings.workdir.rglob("*evil*") if path.parent != fleet.folder / "t0"]
    assert outside == []


# Another host than the back-end's


@pytest.fixture
def object_store() -> Iterator[ThreadingHTTPServer]:
    """A server that answers as an object store does to an expired URL, and remembers what it was told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.seen.append(dict(self.headers))  # type: ignore[attr-defined]
            body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            expired = "expired" in self.path
            self.send_response(403 if expired else 200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def asset_at(server: ThreadingHTTPServer, path: str) -> backend.Asset:
    return backend.Asset("a.xml", f"http://127.0.0.1:{server.server_port}/{path}", None)


def test_a_token_is_not_sent_to_another_host(fleet: Fleet, object_store: Any, tmp_path: Path) -> None:
    connection = fleet.context.connection("local")
    backend.download(connection, asset_at(object_store, "good"), tmp_path / "a.xml")
    (headers,) = object_store.seen
    assert "Authorization" not in headers
    assert (tmp_path / "a.xml").read_bytes().startswith(b"<Error>")


def test_an_expired_url_of_an_object_store_is_worth_another_try(
    fleet: Fleet, object_store: Any, tmp_path: Path
) -> None:
    connection = fleet.context.connection("local")
    with pytest.raises(Exception, match="403") as raised:
        backend.download(connection, asset_at(object_store, "expired"), tmp_path / "a.xml")
    assert classify(raised.value).error_class is ErrorClass.TRANSIENT
