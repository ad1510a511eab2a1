"""tasks: one real Celery worker takes tiles through their whole life, by messages alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from campaign.tile import Step, TileStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.conftest import Fleet

S = TileStatus

FASTIDIOUS = """
good = start_job

def start_job(row, connection, **kwargs):
    if row.number == 4:
        return None
    if row.number == 5:
        raise ZeroDivisionError("what the user wrote")
    return good(row, connection, **kwargs)
"""


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[[Fleet], Path]]:
    """Starts a worker on all queues, with beat, for a fleet; its log. It is ended by its process group."""
    started: list[subprocess.Popen[bytes]] = []

    def start(fleet: Fleet) -> Path:
        environment = dict(os.environ) | {
            "FLEET_REDIS_URL": fleet.settings.redis_url,
            "FLEET_NAMESPACE": fleet.settings.namespace,
            "FLEET_WORKDIR": str(fleet.settings.workdir),
            "FLEET_TICK": "0.5",
        }
        command = [sys.executable, "-P", "-m", "workers", "worker", "--loglevel=INFO"]
        command += ["--pool=threads", "--concurrency=4", f"--queues={','.join(Step)}", "--without-gossip"]
        command += ["--without-mingle", "--beat", f"--schedule={tmp_path / 'beat'}"]
        log = tmp_path / "worker.log"
        with log.open("wb") as output:
            started.append(
                subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
            )
        return log

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ended(fleet: Fleet) -> bool:
    waiting = set(fleet.store.counts(fleet.name)) - {S.PUBLISHED, S.FAILED, S.SKIPPED}
    published = fleet.store.counts(fleet.name).get(S.PUBLISHED, 0)
    return not waiting and fleet.store.catalog_state(fleet.name)["published"] == published


def test_the_whole_life_of_a_few_tiles(
    make_fleet: Callable[..., Fleet], start_worker: Callable[[Fleet], Path], wait_for: Callable[..., Any]
) -> None:
    fleet = make_fleet(tiles=6, poll_interval=0.2, code=FASTIDIOUS)
    log = start_worker(fleet)
    wait_for(lambda: ended(fleet), 60)
    assert fleet.store.counts(fleet.name) == {S.PUBLISHED: 4, S.SKIPPED: 1, S.FAILED: 1}
    assert sorted(job["title"].split()[0] for job in fleet.jobs()) == ["100", "101", "102", "103"]
    assert fleet.store.backend("local").places == 0
    assert fleet.store.redis.zcard(fleet.store.key("due")) == 0
    assert "ZeroDivisionError" in fleet.tile("t5").error
    catalog = fleet.settings.workdir / "results" / "catalog"
    assert (catalog / "catalog.json").exists()
    assert len(list(catalog.glob(f"{fleet.name}/0000/t*.json"))) == 4
    assert "raised unexpected" not in log.read_text()


def test_a_message_that_comes_late_or_for_nothing_does_nothing(
    make_fleet: Callable[..., Fleet], start_worker: Callable[[Fleet], Path], wait_for: Callable[..., Any]
) -> None:
    from producer.enqueue import next_messages, send  # noqa: PLC0415

    fleet = make_fleet(tiles=1, poll_interval=0.2)
    messages = list(next_messages(fleet.store, fleet.name))
    stray = messages[0].__class__(Step.PUBLISH, Step.PUBLISH, {"campaign": "gone", "tile": "t0"}, "gone/t0")
    send(fleet.settings.redis_url, fleet.store.namespace, [*messages * 5, stray])
    log = start_worker(fleet)
    wait_for(lambda: ended(fleet), 60)
    wait_for(lambda: "gone/t0: nothing to publish" in log.read_text(), 10)
    assert len(fleet.jobs()) == 1
    assert "raised unexpected" not in log.read_text()
