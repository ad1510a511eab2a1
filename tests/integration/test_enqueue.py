"""enqueue: a campaign comes into the store, one message per tile into the queues; the same again resumes it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from campaign.backends import Backend
from campaign.errors import InvalidInput
from campaign.message import FINALIZE, TICK, finalize_message, tile_message
from campaign.spec import load_campaign
from campaign.tile import NEXT_STEP, Step, Tile, TileStatus
from producer.enqueue import enqueue, output_folder, send
from workers import tasks
from workers.pauses import Pauses
from workers.tick import tick

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from campaign.settings import Settings
    from campaign.store import TileStore
    from producer.enqueue import Enqueued
    from tests.integration.conftest import Fleet

S = TileStatus


@pytest.fixture
def put(store: TileStore, settings: Settings) -> Callable[..., Enqueued]:
    def run(path: Path, **urls: str) -> Enqueued:
        return enqueue(load_campaign(path, urls=urls), store, settings.redis_url, settings.workdir)

    return run


def queued(store: TileStore, step: Step = Step.SUBMIT) -> list[dict[str, Any]]:
    """The messages in a queue as they are in Redis, oldest first."""
    raw = store.redis.lrange(store.key("celery:") + step, 0, -1)
    return [json.loads(message) for message in reversed(raw)]


def called_with(message: dict[str, Any]) -> dict[str, Any]:
    arguments, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert arguments == []
    found: dict[str, Any] = kwargs
    return found


def empty(store: TileStore) -> None:
    for step in Step:
        store.redis.delete(store.key("celery:") + step)


def test_a_campaign_comes_into_the_store(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore, settings: Settings
) -> None:
    path = write_campaign(name="ndvi", max_attempts=5)
    done = put(path)
    assert (done.total, done.new, done.sent) == (3, 3, 3)
    meta = store.campaign("ndvi")
    assert meta is not None
    assert (meta.path, meta.total, meta.max_attempts, meta.backends) == (str(path), 3, 5, ("local",))
    assert meta.output == str(settings.workdir / "results")
    assert store.counts("ndvi") == {S.NOT_STARTED: 3}
    assert [tile.id for tile in store.tiles("ndvi")] == ["t0", "t1", "t2"]
    assert store.backend("local").waiting == 3
    (file,) = load_campaign(path).backends
    assert Backend.from_store(store.backend_settings("local")) == file


def test_the_messages_are_json_and_say_what_to_do(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    put(write_campaign(name="ndvi"))
    messages = queued(store)
    assert [called_with(message) for message in messages] == [
        {"campaign": "ndvi", "tile": f"t{number}"} for number in range(3)
    ]
    for number, message in enumerate(messages):
        assert message["content-type"] == "application/json"
        assert message["content-encoding"] == "utf-8"
        assert message["headers"]["task"] == "submit"
        assert message["headers"]["id"] == f"ndvi.t{number}.submit.1"
    assert [store.queue_length(step) for step in Step] == [3, 0, 0, 0]


def test_every_task_that_is_sent_is_registered_where_it_is_sent(store: TileStore, redis_url: str) -> None:
    registered = {name for name in tasks.app.tasks if not name.startswith("celery.")}
    assert registered == {*Step, FINALIZE, TICK}
    messages = [finalize_message("c")]
    messages += [message for status in NEXT_STEP if (message := tile_message(Tile("c", "t", status, backend="b")))]
    assert {message.task for message in messages} | {TICK} == registered
    queues = {queue.name for queue in tasks.app.conf.task_queues}
    assert {message.queue for message in messages} <= queues
    assert send(redis_url, store.namespace, messages) == len(messages)
    assert sum(store.queue_length(step) for step in Step) == len(messages)
    for message in messages:
        task = tasks.app.tasks[message.task]
        task.__header__(**message.kwargs)  # takes what it is sent


def test_the_workers_take_json_only() -> None:
    assert tasks.app.conf.accept_content == ["json"]
    assert tasks.app.conf.task_serializer == "json"


def test_the_same_again_resumes(
    make_fleet: Callable[..., Fleet], put: Callable[..., Enqueued], store: TileStore
) -> None:
    fleet = make_fleet(tiles=4)
    fleet.finished("t0")
    fleet.finished("t1")
    fleet.step("t1")
    fleet.step("t2")
    before = [fleet.tile(f"t{number}") for number in range(4)]
    created_at, run = fleet.meta.created_at, fleet.meta.run
    empty(store)
    done = put(fleet.path)
    assert (done.total, done.new, done.sent) == (4, 0, 3)
    assert [fleet.tile(f"t{number}") for number in range(4)] == before
    assert (fleet.meta.created_at, fleet.meta.run) == (created_at, run)
    assert [store.queue_length(step) for step in Step] == [0, 1, 1, 1]
    fleet.is_due("t3")
    assert (Step.SUBMIT, "t3") in [(message.task, message.kwargs.get("tile")) for message in tick(fleet.context)]
    assert called_with(queued(store, Step.TRACK)[0]) == {"backend": "local"}
    assert called_with(queued(store, Step.POSTPROCESS)[0])["tile"] == "t0"
    assert called_with(queued(store, Step.PUBLISH)[0])["tile"] == "t1"


def test_each_campaign_has_a_run_of_its_own(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    path = write_campaign(name="ndvi")
    put(path)
    meta = store.campaign("ndvi")
    assert meta is not None
    assert (meta.source, len(meta.run)) == (path.read_text(), 8)
    put(write_campaign(name="other"))
    other = store.campaign("other")
    assert other is not None
    assert other.run != meta.run


def test_the_same_again_ends_pauses(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    put(write_campaign(name="ndvi"))
    Pauses(store).pause("local", 600, "auth: refused")
    put(write_campaign(name="ndvi"))
    assert not store.backend("local").paused


def test_another_output_is_refused_once_there_are_results(
    make_fleet: Callable[..., Fleet], put: Callable[..., Enqueued]
) -> None:
    fleet = make_fleet(tiles=1)
    moved = fleet.path.read_text().replace('output="results"', 'output="elsewhere"')
    before = fleet.path.read_text()
    fleet.path.write_text(moved)
    put(fleet.path)
    assert fleet.meta.output.endswith("elsewhere")
    fleet.finished()
    fleet.step()
    fleet.path.write_text(before)
    with pytest.raises(InvalidInput, match=r"the results of 1 tiles of campaign .* are in .*elsewhere"):
        put(fleet.path)
    assert fleet.meta.output.endswith("elsewhere")


def test_another_url_is_refused_while_there_are_jobs_unless_it_is_asked_for(
    make_fleet: Callable[..., Fleet], put: Callable[..., Enqueued]
) -> None:
    fleet = make_fleet(tiles=1)
    before = fleet.path.read_text()
    there = fleet.sandbox.url
    fleet.path.write_text(before.replace(there, "https://other.example"))
    put(fleet.path)
    fleet.path.write_text(before)
    put(fleet.path)
    fleet.finished()
    fleet.path.write_text(before.replace(there, "https://other.example"))
    with pytest.raises(InvalidInput, match=r"https://other.example is not .*, where 1 jobs of this fleet are"):
        put(fleet.path)
    assert fleet.store.backend("local").url == there
    put(fleet.path, local="https://other.example")
    assert fleet.store.backend("local").url == "https://other.example"


def test_tiles_without_a_job_wait_for_the_back_ends_of_now(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    put(write_campaign(name="ndvi", backends=TWO[:1]))
    put(write_campaign(name="ndvi", backends=TWO[1:]))
    assert (store.backend("a").waiting, store.backend("b").waiting) == (0, 3)


def test_a_campaign_that_has_ended_sends_nothing(
    make_fleet: Callable[..., Fleet], put: Callable[..., Enqueued], store: TileStore
) -> None:
    fleet = make_fleet(tiles=1)
    fleet.start_with(lambda **_: None)
    fleet.step()
    empty(store)
    assert put(fleet.path).sent == 0


def test_tiles_tracked_together_take_one_message(
    make_fleet: Callable[..., Fleet], put: Callable[..., Enqueued], store: TileStore
) -> None:
    fleet = make_fleet(tiles=2)
    fleet.sandbox.behave(queue_seconds=30.0)
    fleet.step("t0")
    fleet.step("t1")
    empty(store)
    assert put(fleet.path).sent == 1


@pytest.mark.parametrize("tiles", [2, 5])
def test_another_table_is_refused_with_numbers(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore, tiles: int
) -> None:
    put(write_campaign(name="ndvi"))
    empty(store)
    with pytest.raises(InvalidInput) as refused:
        put(write_campaign(name="ndvi", tiles=tiles))
    assert f"3 tiles then, {tiles} now, {max(0, tiles - 3)} of them new" in str(refused.value)
    assert store.counts("ndvi") == {S.NOT_STARTED: 3}
    assert store.queue_length(Step.SUBMIT) == 0


def test_other_values_are_another_table(put: Callable[..., Enqueued], write_campaign: Callable[..., Path]) -> None:
    put(write_campaign(name="ndvi"))
    with pytest.raises(InvalidInput, match="not the one"):
        put(write_campaign(name="ndvi", columns='{"extra": 1}'))


def test_another_campaign_may_have_another_table(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    put(write_campaign(name="one"))
    put(write_campaign(name="two", tiles=5))
    assert store.campaigns() == ["one", "two"]
    assert store.backend("local").waiting == 8


def test_settings_of_a_back_end_are_brought_up_to_date(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    put(write_campaign(name="ndvi"))
    put(write_campaign(name="ndvi", parallel_jobs=7))
    assert store.backend("local").parallel_jobs == 7


def test_a_setting_that_is_taken_back_is_gone(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    put(write_campaign(name="ndvi", provider_id="old"))
    put(write_campaign(name="ndvi"))
    assert Backend.from_store(store.backend_settings("local")).provider_id is None


def test_another_url_on_the_command_line(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    put(write_campaign(name="ndvi"), local="https://other.example/openeo")
    assert store.backend("local").url == "https://other.example/openeo"


TWO = [{"name": name, "url": f"https://{name}.example"} for name in ("a", "b")]


def test_tiles_are_pinned_by_the_column_backend_name(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    put(write_campaign(name="ndvi", tiles=4, backends=TWO, columns='{"backend_name": ["b", None, "", float("nan")]}'))
    tiles = list(store.tiles("ndvi"))
    assert [(tile.backend, tile.pinned) for tile in tiles] == [("b", True), ("", False), ("", False), ("", False)]
    assert (store.backend("a").waiting, store.backend("b").waiting) == (3, 4)


def test_an_unknown_pin_is_named_with_its_row(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    path = write_campaign(name="ndvi", backends=TWO, columns='{"backend_name": ["b", None, "cdse"]}')
    with pytest.raises(InvalidInput) as refused:
        put(path)
    assert "column backend_name, row 2: unknown back-end 'cdse'; the campaign has a, b" in str(refused.value)
    assert store.campaigns() == []


def test_back_ends_of_a_file_elsewhere_serve_the_workers_too(
    make_fleet: Callable[..., Fleet], tmp_path: Path, store: TileStore, settings: Settings
) -> None:
    fleet = make_fleet()
    url = fleet.sandbox.url
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(f'[local]\nurl = "{url}"\nauth = "basic"\n')
    text = fleet.path.read_text()
    start = text.index("backends=")
    text = text[:start] + 'backends="local", ' + text[text.index("output=", start) :]
    fleet.path.write_text(text)
    enqueue(load_campaign(fleet.path, elsewhere), store, settings.redis_url, settings.workdir)
    fleet.step("t0")
    assert (fleet.tile().status, fleet.tile().error) == (S.QUEUED, "")


@pytest.mark.parametrize(
    ("output", "folder"),
    [
        ("results", "work/results"),
        ("/data/results", "/data/results"),
        ("file:///data/results", "/data/results"),
        ("../beside", "beside"),
    ],
)
def test_where_the_output_goes(write_campaign: Callable[..., Path], tmp_path: Path, output: str, folder: str) -> None:
    path = write_campaign(name="ndvi")
    path.write_text(path.read_text().replace('output="results"', f'output="{output}"'))
    assert output_folder(load_campaign(path), tmp_path / "work") == tmp_path / folder


def test_an_output_that_is_no_folder_is_refused(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path]
) -> None:
    path = write_campaign(name="ndvi")
    path.write_text(path.read_text().replace('output="results"', 'output="s3://bucket/results"'))
    with pytest.raises(InvalidInput, match="s3://bucket"):
        put(path)


def test_many_tiles_are_sent_in_their_order(
    put: Callable[..., Enqueued], write_campaign: Callable[..., Path], store: TileStore
) -> None:
    assert put(write_campaign(name="ndvi", tiles=1203)).sent == 1203
    assert [called_with(message)["tile"] for message in queued(store)] == [f"t{number}" for number in range(1203)]
    (last,) = store.get_many("ndvi", ["t1202"])
    assert last is not None
    assert last.order == 1202
