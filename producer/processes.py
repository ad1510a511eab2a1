"""The processes of a fleet on one machine: started, kept running, and stopped together."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Self

from campaign.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_RESTART_AFTER = (0.5, 1.0, 2.0, 5.0)
"""Seconds before a process that ended by itself is started again, by how often it did."""

_STEADY_AFTER = 10.0
"""Seconds a process has to run for its earlier ends to be forgotten."""

_TAIL_BYTES = 8192

_ENDS = 5
"""How often in a row a process may end within `_STEADY_AFTER`: more of the same will not help."""

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None  # a forked child must not load it


def die_with_parent(parent: int) -> None:
    """In a new child: end with SIGTERM when the parent ends, however it ends (Linux; elsewhere nothing happens).

    Args:
        parent: its process id, taken before the child was made: it may have ended since.
    """
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


@dataclass
class Child:
    """One process that is to run for as long as the fleet does."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_file: Path
    needed: bool = True
    """Whether the fleet stands still without it."""
    process: subprocess.Popen[bytes] | None = None
    ends: int = 0
    """How often it ended by itself lately."""
    since: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Start it, its output appended to its log file."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.since = time.monotonic()
        with self.log_file.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603  (our own commands)
                list(self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509  (it loads nothing and takes no lock)
            )

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self.process is not None and self.process.poll() is None

    @property
    def last_words(self) -> str:
        """The last line of its log."""
        return last_line_of(self.log_file) or "it left no log"


class Processes:
    """The children of one `run`; used as a context, it leaves none behind."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = list(children)

    def __enter__(self) -> Self:
        for child in self.children:
            child.start()
        return self

    def add(self, children: Sequence[Child]) -> None:
        """Start more of them."""
        self.children += children
        for child in children:
            child.start()

    @property
    def running(self) -> bool:
        """Whether all run."""
        return all(child.running for child in self.children)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def look_after(self) -> None:
        """Start again what ended by itself, each time a little later.

        Raises:
            FleetError: something that is needed ends again and again; says what its log says.
        """
        for child in self.children:
            if not child.running:
                _start_again(child)
            elif time.monotonic() - child.since > _STEADY_AFTER:
                child.ends = 0

    def stop(self, grace: float = 20.0) -> None:
        """Ask all to finish what they do and end, and end those that are still there after `grace` seconds."""
        running = [child for child in self.children if child.running]
        _signal(running, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while any(child.running for child in running) and time.monotonic() < deadline:
            time.sleep(0.05)
        _signal([child for child in running if child.running], signal.SIGKILL)
        for child in running:
            if child.process is not None:
                child.process.wait()


def last_line_of(log_file: Path) -> str:
    """The last line of a log that says anything; empty where there is none."""
    if not log_file.exists():
        return ""
    with log_file.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def _start_again(child: Child) -> None:
    """Start a child that ended, once its time has come; a child that is not needed may stay away."""
    if child.ends >= _ENDS - 1:
        if child.needed:
            raise FleetError(f"{child.name} ended {_ENDS} times in a row: {child.last_words} (see {child.log_file})")
        if child.ends == _ENDS - 1:
            child.ends += 1
            log.warning("%s is left out: it ended %s times in a row; see %s", child.name, _ENDS, child.log_file)
        return
    if time.monotonic() - child.since > _RESTART_AFTER[child.ends]:
        child.ends += 1
        log.warning("%s ended and is started again; see %s", child.name, child.log_file)
        child.start()


def _signal(children: Sequence[Child], number: signal.Signals) -> None:
    for child in children:
        if child.process is None:
            continue
        try:
            if number is signal.SIGKILL:
                os.killpg(child.process.pid, number)
            else:
                child.process.send_signal(number)
        except ProcessLookupError:
            continue
