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
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_RESTART_AFTER = (0.5, 1.0, 2.0, 5.0, 15.0)
"""Seconds before a process that ended by itself is started again, by how often it did."""

_STEADY_AFTER = 60.0
"""Seconds a process has to run for its earlier ends to be forgotten."""


def die_with_parent() -> None:
    """In a new child: end with SIGTERM when the parent ends, however it ends (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """One process that is to run for as long as the fleet does."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_file: Path
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
                preexec_fn=die_with_parent,  # noqa: PLW1509  (no locks are held while children start)
            )

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self.process is not None and self.process.poll() is None


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
        """Start again what ended by itself, each time a little later."""
        for child in self.children:
            if child.running:
                if time.monotonic() - child.since > _STEADY_AFTER:
                    child.ends = 0
                continue
            wait = _RESTART_AFTER[min(child.ends, len(_RESTART_AFTER) - 1)]
            if time.monotonic() - child.since > wait:
                child.ends += 1
                log.warning("%s ended and is started again; see %s", child.name, child.log_file)
                child.start()

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
