"""The tiles of bench_room.py by a bare loop: no state, no checks, no second tries.

Jobs are created ahead, started as soon as the list of jobs shows that another one has ended, described once, and their
files fetched. Whoever polls at that interval can hardly keep a back-end busier.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from room_campaign import SLOTS, table

if TYPE_CHECKING:
    from collections.abc import Iterator

PREPARED = SLOTS
"""Jobs that are created and not started: enough for all slots to become free at once."""
CREATORS = 8
THREADS = 64
PAGE = 100
UNEVEN = 0.2
"""Share by which the time between two polls is longer or shorter."""
_TIMEOUT = 60.0


class Answer(NamedTuple):
    """What the back-end says."""

    headers: http.client.HTTPMessage
    content: bytes


class Api:
    """Requests, each thread on a connection of its own that is kept."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._local = threading.local()
        self.headers: dict[str, str] = {}

    def log_in(self, user: str, password: str) -> None:
        """Get a token for all that follows."""
        words = base64.b64encode(f"{user}:{password}".encode()).decode()
        answer = self._request(
            "GET", f"{self._parts.path}/credentials/basic", None, {"Authorization": f"Basic {words}"}
        )
        self.headers = {"Authorization": f"Bearer basic//{json.loads(answer.content)['access_token']}"}

    async def ask(self, method: str, target: str, body: dict[str, Any] | None = None) -> Answer:
        """One request; `target` is a path of the API or a whole URL."""
        parts = urlsplit(target)
        path = f"{parts.path}?{parts.query}" if parts.netloc else self._parts.path + target
        return await asyncio.to_thread(self._request, method, path, body, self.headers)

    def _request(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Answer:
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(self._parts.netloc, timeout=_TIMEOUT)
        content = None if body is None else json.dumps(body)
        self._local.connection.request(method, path, content, {"Content-Type": "application/json", **headers})
        response = self._local.connection.getresponse()
        answer = Answer(response.headers, response.read())
        if response.status >= http.client.BAD_REQUEST:
            raise SystemExit(f"{method} {path}: {response.status} {answer.content[:300]!r}")
        return answer


class Loop:
    """All tiles from the first request to the last file."""

    def __init__(self, api: Api, *, room: int, every: float, folder: Path) -> None:
        self._api, self._every, self._folder = api, every, folder
        self._prepared: asyncio.Queue[str] = asyncio.Queue(PREPARED)
        self._room = asyncio.Semaphore(room)
        self._active: set[str] = set()

    async def run(self, graphs: list[dict[str, Any]]) -> None:
        """Run one job for each process graph."""
        waiting = iter(graphs)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CREATORS):
                tasks.create_task(self._create(waiting))
            tasks.create_task(self._poll(tasks, len(graphs)))
            for _ in graphs:
                await self._room.acquire()
                tasks.create_task(self._start(await self._prepared.get()))

    async def _create(self, waiting: Iterator[dict[str, Any]]) -> None:
        for graph in waiting:
            answer = await self._api.ask("POST", "/jobs", {"title": "room", "process": {"process_graph": graph}})
            await self._prepared.put(str(answer.headers["OpenEO-Identifier"]))

    async def _start(self, job: str) -> None:
        await self._api.ask("POST", f"/jobs/{job}/results")
        self._active.add(job)

    async def _poll(self, tasks: asyncio.TaskGroup, left: int) -> None:
        """Ask for the list until all jobs have ended; at uneven intervals, or jobs of equal length fall into step."""
        clock, uneven = asyncio.get_running_loop(), random.Random(0)
        due = clock.time()
        while left:
            for job in await self._ended():
                self._active.remove(job)
                self._room.release()
                tasks.create_task(self._deliver(job))
                left -= 1
            due = max(due + self._every * uneven.uniform(1 - UNEVEN, 1 + UNEVEN), clock.time())
            await asyncio.sleep(due - clock.time())

    async def _ended(self) -> list[str]:
        """The jobs that were started and that the list shows as ended; it is read as far as those are in it."""
        looked_for, page = set(self._active), f"/jobs?limit={PAGE}"
        found: dict[str, str] = {}
        while page:
            document = json.loads((await self._api.ask("GET", page)).content)
            found |= {job["id"]: job["status"] for job in document["jobs"] if job["id"] in looked_for}
            following = [link["href"] for link in document["links"] if link["rel"] == "next"]
            page = following[0] if following and len(found) < len(looked_for) else ""
        failed = {status for status in found.values() if status in {"error", "canceled"}}
        if failed:
            raise SystemExit(f"jobs ended as {failed}")
        return [job for job, status in found.items() if status == "finished"]

    async def _deliver(self, job: str) -> None:
        await self._api.ask("GET", f"/jobs/{job}")
        results = json.loads((await self._api.ask("GET", f"/jobs/{job}/results")).content)
        for name, asset in results["assets"].items():
            content = (await self._api.ask("GET", asset["href"])).content
            (self._folder / f"{job}-{name}").write_bytes(content)


def process_graphs() -> list[dict[str, Any]]:
    """The same as the campaign's `start_job` makes."""
    return [_process_graph(row) for _, row in table().iterrows()]


def _process_graph(row: Any) -> dict[str, Any]:
    loaded = {
        "id": "SENTINEL2_L2A",
        "spatial_extent": json.loads(row["spatial_extent"]),
        "temporal_extent": [row["start_date"], row["end_date"]],
        "bands": ["B04", "B08"],
    }
    mean = {"mean1": {"process_id": "mean", "arguments": {"data": {"from_parameter": "data"}}, "result": True}}
    reduced = {"data": {"from_node": "ndvi1"}, "dimension": "t", "reducer": {"process_graph": mean}}
    saved = {"data": {"from_node": "reducedimension1"}, "format": "NetCDF", "options": {}}
    return {
        "loadcollection1": {"process_id": "load_collection", "arguments": loaded},
        "ndvi1": {"process_id": "ndvi", "arguments": {"data": {"from_node": "loadcollection1"}}},
        "reducedimension1": {"process_id": "reduce_dimension", "arguments": reduced},
        "saveresult1": {"process_id": "save_result", "arguments": saved, "result": True},
    }


async def run(url: str, user: str, folder: Path, *, room: int, every: float) -> None:
    """Log in and run all tiles."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    api = Api(url)
    api.log_in(*user.split(":", 1))
    await Loop(api, room=room, every=every, folder=folder).run(process_graphs())


def main() -> None:
    """Run all tiles; ends with an error at the first answer that is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("user", metavar="NAME:PASSWORD")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--room", type=int, default=SLOTS, help="jobs started at the same time (default: %(default)s)")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two polls (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(arguments.url, arguments.user, arguments.folder, room=arguments.room, every=arguments.every))


if __name__ == "__main__":
    main()
