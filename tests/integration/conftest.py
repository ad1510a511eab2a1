"""A campaign on a sandbox, and its steps run in this process as the tasks run them: on real Redis, over real HTTP."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from campaign.errors import TransitionLost
from campaign.message import FINALIZE
from campaign.settings import Settings
from campaign.spec import Campaign, load_campaign
from campaign.tile import NEXT_STEP, Step, Tile, TileStatus
from producer.enqueue import enqueue
from sandbox.spawn import Sandbox, running
from workers.context import Context
from workers.finalize import finalize
from workers.postprocess import postprocess
from workers.publish import publish
from workers.submit import submit
from workers.tick import tick
from workers.track import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from campaign.message import Message
    from campaign.meta import CampaignMeta
    from campaign.store import TileStore

CAMPAIGN = """
import geopandas as gpd
import shapely
from campaign import Backend, Campaign

COUNT = {tiles}
boxes = [shapely.box(4 + n / 10, 51, 4.1 + n / 10, 51.1) for n in range(COUNT)]
table = gpd.GeoDataFrame(
    {{
        "tile_id": [f"t{{n}}" for n in range(COUNT)],
        "start_date": "2024-05-01",
        "end_date": "2024-06-01",
        "number": range(COUNT),
        **{columns},
    }},
    geometry=boxes,
    crs="EPSG:4326",
    index=[100 + n for n in range(COUNT)],
).to_crs({crs})
campaign = Campaign(name="{name}", table=table, backends=[Backend(**b) for b in {backends}], output="results", **{more})

def start_job(row, connection, **kwargs):
    west, south, east, north = boxes[row.number].bounds
    extent = dict(west=west, south=south, east=east, north=north)
    arguments = dict(id="SENTINEL2_L2A", spatial_extent=extent, temporal_extent=[row.start_date, row.end_date])
    graph = dict(load=dict(process_id="load_collection", arguments=arguments, result=True))
    return connection.create_job(graph, title=f"{{row.name}}")
"""

STEPS: dict[str, Callable[..., Any]] = {Step.SUBMIT: submit, Step.POSTPROCESS: postprocess, Step.PUBLISH: publish}
GRAPH: dict[str, Any] = {"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}
LEASE = 20.0
MORE = frozenset(Campaign.model_fields) - {"name", "table", "backends"}
"""Settings of the campaign itself; the others are its back-end's."""


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait for `condition` to come true; what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not come true in {seconds} s"
        time.sleep(0.01)
    return found


@dataclass
class Fleet:
    """A campaign in the store, a worker of it, and the back-end that it runs on."""

    name: str
    settings: Settings
    sandbox: Sandbox
    sandbox_data: Path
    path: Path
    start_job: Callable[..., Any] | None = None
    workers: list[Context] = field(default_factory=list)

    @property
    def context(self) -> Context:
        """The first worker."""
        return self.workers[0]

    @property
    def store(self) -> TileStore:
        return self.context.store

    @property
    def meta(self) -> CampaignMeta:
        return self.context.meta(self.name)

    @property
    def folder(self) -> Path:
        """Where the tiles' results are."""
        return self.settings.workdir / "results" / self.name

    def worker(self, lease: float = LEASE) -> Context:
        """One more worker."""
        context = Context(self.settings.model_copy(update={"lease": lease}))
        self.workers.append(context)
        if self.start_job is not None:
            self.start_with(self.start_job)
        return context

    def start_with(self, start_job: Callable[..., Any]) -> None:
        """Use another `start_job` in all workers."""
        self.start_job = start_job
        for context in self.workers:
            hooks = context.hooks(self.meta)
            context._hooks[self.meta.path, self.meta.sha256] = replace(hooks, start_job=start_job)

    def tile(self, tile_id: str = "t0") -> Tile:
        tile = self.store.get(self.name, tile_id)
        assert tile is not None
        return tile

    def do(self, message: Message, context: Context | None = None) -> list[Message]:
        """What the task of `message` does; the messages that it would send."""
        context = context or self.context
        if message.task == Step.TRACK:
            return track(context, message.kwargs["backend"])
        if message.task == FINALIZE:
            finalize(context, message.kwargs["campaign"])
            return []
        tile = context.store.get(message.kwargs["campaign"], message.kwargs["tile"])
        if tile is None or NEXT_STEP.get(tile.status) != message.task:
            return []
        try:
            found: list[Message] = STEPS[message.task](context, tile)
        except TransitionLost:
            return []
        return found

    def step(self, tile_id: str = "t0", context: Context | None = None) -> list[Message]:
        """Do the next step of one tile."""
        tile = self.tile(tile_id)
        assert tile.next_step is not None
        if tile.next_step is Step.TRACK:
            return track(context or self.context, tile.backend)
        found: list[Message] = STEPS[tile.next_step](context or self.context, tile)
        return found

    def tick(self) -> None:
        """A tick, and all that comes of it."""
        messages = tick(self.context)
        while messages:
            messages += self.do(messages.pop(0))

    def unpause(self, backend: str = "local") -> None:
        """Let the pause of a back-end end, and nothing else be forgotten."""
        self.store.redis.hdel(self.store.key("b", backend), "paused_until")

    def moves_to(self, url: str, backend: str = "local") -> None:
        """Have a back-end at another address."""
        self.store.redis.hset(self.store.key("b", backend), "url", url)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have no back-end answer for the length of a block, as one does whose server is down, but at once."""

        def connection(_: str) -> Any:
            raise requests.ConnectionError("Max retries exceeded (Caused by NewConnectionError('refused'))")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.context, "connection", connection)
            yield

    def is_due(self, tile_id: str = "t0") -> None:
        """Let the time pass after which somebody has to look at the tile again."""
        self.store.redis.zadd(self.store.key("due"), {self.tile(tile_id).key: self.store.now() - 0.001}, xx=True)

    def due_in(self, tile_id: str = "t0") -> float | None:
        """Seconds until the tile is due."""
        score = self.store.redis.zscore(self.store.key("due"), self.tile(tile_id).key)
        return None if score is None else score - self.store.now()

    def jobs(self, tile_id: str | None = None) -> list[dict[str, Any]]:
        """The jobs of this campaign's tiles on the back-end, newest first."""
        marker = f"[fleet:{self.name}/" + (f"{tile_id}/" if tile_id else "")
        return [job for job in jobs_of(self.sandbox) if marker in job.get("title", "")]

    def job_is(self, tile_id: str, *statuses: str) -> dict[str, Any]:
        """Wait until the tile's newest job is in one of `statuses`."""
        found: dict[str, Any] = until(
            lambda: next((job for job in self.jobs(tile_id)[:1] if job["status"] in statuses), None)
        )
        return found

    def finished(self, tile_id: str = "t0") -> Tile:
        """Bring a tile to `finished`."""
        while self.tile(tile_id).status in {TileStatus.NOT_STARTED, TileStatus.SUBMITTING, TileStatus.CREATED}:
            self.step(tile_id)
        self.job_is(tile_id, "finished")
        track(self.context, self.tile(tile_id).backend)
        tile = self.tile(tile_id)
        assert tile.status is TileStatus.FINISHED
        return tile

    def results(self, tile_id: str, files: dict[str, bytes], **described: Any) -> None:
        """Have the tile's job give other files, as a back-end with other processes would."""
        job_id = self.tile(tile_id).job_id
        folder = next(path for path in self.sandbox_data.rglob(job_id) if path.is_dir())
        with sqlite3.connect(self.sandbox_data / "jobs.sqlite") as db:
            outcome = json.loads(db.execute("SELECT outcome FROM jobs WHERE id = ?", (job_id,)).fetchone()[0])
            template = {"media_type": "application/octet-stream", "checksum": "", "bands": [], "datetimes": []}
            template |= {"epsg": None, "bbox": None}
            outcome["files"] = [
                template | {"name": name, "size": len(content)} | described for name, content in files.items()
            ]
            db.execute("UPDATE jobs SET outcome = ? WHERE id = ?", (json.dumps(outcome), job_id))
        db.close()
        for name, content in files.items():
            (folder / name.rsplit("/", 1)[-1]).write_bytes(content)

    def close(self) -> None:
        for context in self.workers:
            for connection in context._connections.values():
                connection.session.close()
            context.store.redis.close()


def jobs_of(sandbox: Sandbox, user: tuple[str, str] = ("demo", "demo")) -> list[dict[str, Any]]:
    """All jobs of a user, newest first."""
    while True:
        token = requests.get(f"{sandbox.url}/credentials/basic", auth=user, timeout=10)
        headers = {"Authorization": f"Bearer basic//{token.json().get('access_token')}"}
        answer = requests.get(f"{sandbox.url}/jobs", headers=headers, timeout=10)
        if answer.ok:
            found: list[dict[str, Any]] = answer.json()["jobs"]
            return found


@pytest.fixture(scope="module")
def sandbox_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="module")
def fast_sandbox(sandbox_data: Path) -> Iterator[Sandbox]:
    """A back-end whose jobs take no time."""
    users = ("--user", "demo:demo", "--user", "other:secret", "--client", "robot:key")
    with running(sandbox_data, "--executors", "1", "--parallel", "8", "--behaviour", "fast=1", *users) as started:
        yield started


@pytest.fixture
def settings(redis_url: str, store: TileStore, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, namespace=store.namespace, workdir=tmp_path / "work", lease=LEASE)


@pytest.fixture
def write_campaign(tmp_path: Path, fast_sandbox: Sandbox) -> Callable[..., Path]:
    """Writes a campaign file; says where it is."""

    def write(name: str = "", tiles: int = 3, columns: str = "{}", code: str = "", **settings: Any) -> Path:
        backend = {"name": "local", "url": fast_sandbox.url, "auth": "basic", "parallel_jobs": 2, "poll_interval": 1}
        backend["prepared_jobs"] = 0
        more = {key: settings.pop(key) for key in MORE if key in settings}
        words: dict[str, Any] = {"crs": settings.pop("crs", 4326)}
        backends = settings.pop("backends", None) or [backend | settings]
        words |= {"name": name or f"c{uuid.uuid4().hex[:8]}", "tiles": tiles, "columns": columns}
        path = tmp_path / "campaign.py"
        path.write_text(CAMPAIGN.format(**words, backends=backends, more=more) + code, "utf-8")
        return path

    return write


@pytest.fixture
def make_fleet(  # noqa: PLR0913, PLR0917  (fixtures)
    write_campaign: Callable[..., Path],
    settings: Settings,
    store: TileStore,
    fast_sandbox: Sandbox,
    sandbox_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Fleet]]:
    for name in [name for name in os.environ if name.startswith("FLEET_")]:
        monkeypatch.delenv(name)
    for backend in ("LOCAL", "SECOND"):
        monkeypatch.setenv(f"FLEET_{backend}_USERNAME", "demo")
        monkeypatch.setenv(f"FLEET_{backend}_PASSWORD", "demo")
    made: list[Fleet] = []

    def make(**words: Any) -> Fleet:
        path = write_campaign(**words)
        file = load_campaign(path)
        enqueue(file, store, settings.redis_url, settings.workdir)
        fleet = Fleet(file.campaign.name, settings, fast_sandbox, sandbox_data, path)
        fleet.worker()
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.close()
    fast_sandbox.reset(fast=True)


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    """Three tiles on one back-end with two slots."""
    return make_fleet()


@pytest.fixture
def wait_for() -> Callable[..., Any]:
    return until
