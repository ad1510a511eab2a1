"""One client on one fresh sandbox for bench_room.py: what the sandbox counted, and whether it was fast enough itself."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

from room_campaign import SLOTS

from sandbox.spawn import Sandbox, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CLIENT, USER = "bench:secret", "bench:password"
LATENCY, JOB_SECONDS = 0.2, 3.0
_LONGEST = 600.0
_TO_END = 30.0
_EVERY = 0.1
_STAT = Path("/proc/stat")

KINDS: Mapping[str, str] = {
    "POST /jobs": "create",
    "POST /jobs/{job}/results": "start",
    "GET /jobs": "list",
    "GET /jobs/{job}": "describe",
    "GET /jobs/{job}/results": "results",
    "GET /jobs/{job}/results/assets/{file}": "file",
}
OTHER = "other"


class Cores(NamedTuple):
    """Processors that were busy, on average."""

    client: float
    sandbox: float
    """At most 1: it is one process."""
    others: float
    """With whatever else ran on the machine: the figures are good only while this is little."""


@dataclass(frozen=True)
class Outcome:
    """What one client did with one sandbox."""

    busy: float
    """Share of the slots that were busy, from the start of the first job to the start of the last one."""
    busy_to_end: float
    """The same, to the end of the last job: with the tail, in which no jobs are left to start."""
    requests: Mapping[str, float]
    """Requests per tile by kind."""
    others: Mapping[str, int]
    """How many requests there were of each other kind."""
    refused: Mapping[int, int]
    """Answers of 400 and above by status."""
    wall: float
    """Seconds the client took, its own start and end included."""
    cores: Cores
    answers: tuple[float, float]
    """Milliseconds the sandbox took for an answer to which it adds no latency: the median, and the 95th percentile."""

    @property
    def per_tile(self) -> float:
        """Requests per tile of all kinds."""
        return sum(self.requests.values())


class Probe(threading.Thread):
    """Asks a sandbox for next to nothing, again and again: how long its other requests wait for it, too."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(daemon=True)
        self._address = urlsplit(sandbox.url).netloc
        self._pid = sandbox.process.pid
        self._ended = threading.Event()
        self._times: list[float] = []

    def __enter__(self) -> Self:
        self._cpu, self._since = _cpu_seconds(self._pid), time.monotonic()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
        self.cores = (_cpu_seconds(self._pid) - self._cpu) / (time.monotonic() - self._since)

    def run(self) -> None:
        """Ask until the block ends."""
        connection = http.client.HTTPConnection(self._address, timeout=_TO_END)
        while not self._ended.wait(_EVERY):
            start = time.perf_counter()
            connection.request("GET", "/.sandbox/behaviour")
            connection.getresponse().read()
            self._times.append(1000 * (time.perf_counter() - start))
        connection.close()

    @property
    def answers(self) -> tuple[float, float]:
        """Median and 95th percentile, ms."""
        times = sorted(self._times) or [float("nan")]
        return times[len(times) // 2], times[len(times) * 95 // 100]


def measure(command: Sequence[str], settings: Mapping[str, str], tiles: int, folder: Path, limit: int) -> Outcome:
    """Run a client to its end.

    Args:
        command: the client; `{url}` and `{folder}` in it are replaced.
        settings: its environment variables, beside those of this process.
        tiles: how many jobs there have to be in the end.
        folder: for the sandbox, the client and its log; taken to be empty.
        limit: queued and running jobs that the sandbox allows; 0 is no limit.

    Raises:
        SystemExit: the client did not end well.
    """
    words = ("fast=1", f"latency={LATENCY}", f"job_seconds={JOB_SECONDS}", f"max_active_jobs={limit}")
    behaviour = [argument for word in words for argument in ("--behaviour", word)]
    options = ["--parallel", str(SLOTS), "--executors", "1", "--client", CLIENT, "--user", USER, *behaviour]
    with running(folder / "sandbox", *options) as sandbox:
        sandbox.wait_until_warm()
        sandbox.clear_stats()
        words_for = {"url": sandbox.url, "folder": str(folder / "client")}
        before, machine, start = _children_cpu(), _machine_cpu(), time.monotonic()
        with Probe(sandbox) as probe:
            _run([word.format_map(words_for) for word in command], settings, folder / "client.log")
        wall, client = time.monotonic() - start, _children_cpu() - before
        cores = Cores(client / wall, probe.cores, (_machine_cpu() - machine - client) / wall - probe.cores)
        return _outcome(sandbox.stats(), tiles, wall, cores, probe.answers, _busy(folder / "sandbox" / "jobs.sqlite"))


def _outcome(  # noqa: PLR0913, PLR0917  (what was measured)
    stats: Mapping[str, Any], tiles: int, wall: float, cores: Cores, answers: tuple[float, float], busy: float
) -> Outcome:
    if stats["jobs"] != {"finished": tiles}:
        raise SystemExit(f"{tiles} finished jobs were expected, the sandbox has {stats['jobs']}")
    requests = Counter(dict.fromkeys([*KINDS.values(), OTHER], 0))
    for kind, number in stats["requests"].items():
        requests[KINDS.get(kind, OTHER)] += number
    statuses = {int(status): number for status, number in stats["statuses"].items()}
    return Outcome(
        busy=busy,
        busy_to_end=stats["slots"]["business"],
        requests={kind: number / tiles for kind, number in requests.items()},
        others={kind: number for kind, number in stats["requests"].items() if kind not in KINDS},
        refused={status: number for status, number in statuses.items() if status >= http.client.BAD_REQUEST},
        wall=wall,
        cores=cores,
        answers=answers,
    )


def _busy(jobs: Path) -> float:
    """Share of the slots that were busy from the first start of a job to the last one, from the sandbox's own times."""
    with contextlib.closing(sqlite3.connect(jobs)) as db:
        times = db.execute("SELECT started_at, ended_at FROM jobs WHERE started_at IS NOT NULL").fetchall()
    first, last = float(min(times)[0]), float(max(times)[0])
    busy = float(sum(min(end, last) - start for start, end in times))
    return busy / ((last - first) * SLOTS)


def _run(command: Sequence[str], settings: Mapping[str, str], log: Path) -> None:
    """Run a process to its end, or end it when this one is stopped."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "OPENEO_"))}
    with (
        log.open("wb") as output,
        _ended(
            subprocess.Popen(
                command, env=inherited | dict(settings), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        ) as process,
    ):
        code = process.wait(_LONGEST)
    if code:
        raise SystemExit(f"{' '.join(command)}\nended with {code}:\n{log.read_text('utf-8', 'replace')[-3000:]}")


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process for a block; then it ends, as a user would have it first, and whatever it left behind."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_TO_END)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _children_cpu() -> float:
    """Processor seconds of the children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_seconds(pid: int) -> float:
    """Processor seconds of a running process; not a number where nobody tells (Linux does)."""
    if not _STAT.exists():
        return float("nan")
    fields = _STAT.with_name(str(pid)).joinpath("stat").read_text("utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _machine_cpu() -> float:
    """Processor seconds that the machine has spent on anything."""
    if not _STAT.exists():
        return float("nan")
    user, nice, system, _idle, _waiting, *others = _STAT.read_text("utf-8").split("\n", 1)[0].split()[1:9]
    return sum(map(int, (user, nice, system, *others))) / os.sysconf("SC_CLK_TCK")
