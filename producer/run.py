"""run: a campaign from start to end on this machine, with everything that is missing started and stopped again."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from campaign.errors import InvalidInput
from campaign.table.extent import with_geometry
from campaign.tile import TERMINAL, Step, TileStatus
from producer.check import check_before
from producer.enqueue import enqueue
from producer.processes import Child, Processes
from producer.progress import at_rest, watch
from producer.report import map_path, summary
from producer.report import table as table_of
from producer.session import known_campaign, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from rich.console import Console

    from campaign.meta import CampaignMeta
    from campaign.settings import Settings
    from campaign.spec import CampaignFile
    from campaign.store import TileStore
    from producer.session import Opened

POOLS: Mapping[Step, Sequence[str]] = {
    Step.SUBMIT: ("--pool=threads", "--concurrency=16"),
    Step.TRACK: ("--pool=threads", "--concurrency=4"),
    Step.POSTPROCESS: ("--pool=prefork", f"--concurrency={min(2 * (os.cpu_count() or 1), 8)}"),
    Step.PUBLISH: ("--pool=threads", "--concurrency=4"),
}
"""A worker for each step: threads where it waits for HTTP, processes where it computes, too; these wait as well."""

FLOWER_PORT = 5555

_SECONDS_FOR_FLOWER = 10.0


class Stopped(Exception):
    """The user asked `run` to stop."""


def run(file: CampaignFile, settings: Settings, console: Console, *, flower: bool = True) -> int:
    """Run the campaign of `file` until it has ended; the same again resumes it.

    Returns:
        The exit code: 0 if no tile failed, 1 if some did, or are held back.

    Raises:
        InvalidInput: something is wrong; nothing was sent.
        FleetError: it cannot go on; what is done is done, and the same command resumes it.
        Stopped: by SIGINT or SIGTERM; everything that was started has ended.
    """
    warn = _warner(console)
    with only_run(settings), _stoppable(), open_store(settings, create=True, own=True) as opened:
        store = opened.store
        table = check_before(file, store, settings.workdir, warn)
        enqueued = enqueue(file, store, opened.url, settings.workdir, table)
        meta = known_campaign(store, file.campaign.name)
        console.print(f"{meta.name}: {enqueued.total} tiles, {enqueued.new} new", highlight=False)
        if not at_rest(store, meta.name, store.counts(meta.name)):
            _work(opened, meta, settings, console, flower=flower)
            _draw_map(store, meta, warn)
        for line in summary(store, meta):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        counts = store.counts(meta.name)
        return 1 if counts.get(TileStatus.FAILED) or any(status not in TERMINAL for status in counts) else 0


def _warner(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(f"warning: {line}", highlight=False, soft_wrap=True, markup=False)


def _work(opened: Opened, meta: CampaignMeta, settings: Settings, console: Console, *, flower: bool) -> None:
    port = _free_port() if flower and find_spec("flower") else None
    with Processes([flower_child(settings, opened.url, port)] if port else []) as processes:
        console.print(f"workers log to {settings.state_dir / 'logs'}", highlight=False, soft_wrap=True)
        if port and _answers(port, processes):
            console.print(f"Flower: http://127.0.0.1:{port}", highlight=False)
        processes.add(children(settings, opened.url))

        def look_after() -> None:
            opened.look_after()
            processes.look_after()

        watch(opened.store, meta, look_after, console)


def children(settings: Settings, url: str) -> list[Child]:
    """The processes of a fleet on this machine: a worker for each step, and beat."""
    workers = [
        _child(
            settings,
            url,
            step,
            *("worker", f"--queues={step}", f"--hostname={step}@%h", "--loglevel=INFO"),
            *("--without-gossip", "--without-mingle", *pool),
        )
        for step, pool in POOLS.items()
    ]
    schedule = settings.state_dir / "beat-schedule"
    beat = ("beat", f"--schedule={schedule}", "--pidfile=", "--loglevel=WARNING")
    return [*workers, _child(settings, url, "beat", *beat)]


def flower_child(settings: Settings, url: str, port: int) -> Child:
    """Flower, for this machine only; started before the workers, whose tasks it knows by the events it hears."""
    columns = "--tasks-columns=name,args,state,received,runtime,worker"
    child = _child(settings, url, "flower", "flower", "--address=127.0.0.1", f"--port={port}", columns)
    child.needed = False
    return child


def _child(settings: Settings, url: str, name: str, *arguments: str) -> Child:
    environment = dict(os.environ) | {
        "FLEET_REDIS_URL": url,
        "FLEET_NAMESPACE": settings.namespace,
        "FLEET_WORKDIR": str(settings.workdir.resolve()),
        "FLEET_LEASE": str(settings.lease),
        "FLEET_TICK": str(settings.tick),
    }
    command = [sys.executable, "-P", "-m", "workers", *arguments]
    return Child(name, command, environment, settings.state_dir / "logs" / f"{name}.log")


def _answers(port: int, processes: Processes) -> bool:
    """Whether Flower answers, after waiting for it for a while; a campaign runs without it as well."""
    deadline = time.monotonic() + _SECONDS_FOR_FLOWER
    while time.monotonic() < deadline and processes.running:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


def _draw_map(store: TileStore, meta: CampaignMeta, warn: Callable[[str], None]) -> None:
    """Leave a status map beside the results, where plotly is installed and the table says where its tiles are."""
    if not find_spec("plotly"):
        return
    try:
        from producer.status_map import write_status_map  # noqa: PLC0415  (heavy)

        frame = with_geometry(table_of(store, meta))
        if "geometry" in frame.columns:
            write_status_map(frame, map_path(meta), meta.name)
    except Exception as error:  # noqa: BLE001  (the campaign has ended, map or not)
        warn(f"no status map could be drawn: {type(error).__name__}: {error}")


def _free_port() -> int:
    """Flower's own port if it is free on this machine, else any."""
    for port in (FLOWER_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise InvalidInput("no free port for Flower; run with --no-flower")


@contextmanager
def only_run(settings: Settings) -> Iterator[None]:
    """Hold the working directory's lock for the block.

    Raises:
        InvalidInput: another `run` has it, or the folder cannot be written.
    """
    path = settings.state_dir / "run.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise InvalidInput(f"{path.parent}: cannot be written ({error.strerror}); choose another --workdir") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidInput(f"another run is active in {settings.workdir.resolve()}; wait or stop it") from error
        yield


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGINT and SIGTERM end the block with `Stopped`; once, so that stopping is not disturbed."""

    def stop(number: int, _: FrameType | None) -> None:
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
