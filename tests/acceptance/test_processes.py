"""The processes of a run: ones that end again and again are told of, and none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from campaign.errors import FleetError
from producer import processes
from producer.processes import Child, Processes, die_with_parent

if TYPE_CHECKING:
    from pathlib import Path

ENDS = [sys.executable, "-c", "print('no such thing')"]


def child(tmp_path: Path, *, needed: bool) -> Child:
    return Child("flower", ENDS, dict(os.environ), tmp_path / "flower.log", needed)


def look_after(started: Processes, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and started.children[0].ends < 5:
        started.look_after()
        time.sleep(0.01)


def test_what_ends_again_and_again_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_RESTART_AFTER", (0.0,) * 4)
    told = pytest.raises(FleetError, match=r"^flower ended 5 times in a row: no such thing \(see .*flower.log\)$")
    with Processes([child(tmp_path, needed=True)]) as started, told:
        look_after(started)
    assert (tmp_path / "flower.log").read_text("utf-8").count("no such thing") == 5


def test_what_is_not_needed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "_RESTART_AFTER", (0.0,) * 4)
    with Processes([child(tmp_path, needed=False)]) as started:
        look_after(started)
        started.look_after()
    assert "flower is left out" in caplog.text
    assert caplog.text.count("left out") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of the end of their parent")
def test_a_child_that_was_too_late_to_notice_ends_at_once() -> None:
    late = partial(die_with_parent, os.getpid() + 1)  # as if the parent had ended before it asked
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        preexec_fn=late,  # noqa: PLW1509
    )
    with process:
        assert process.wait(10) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of the end of their parent")
def test_a_child_ends_with_its_parent() -> None:
    code = (
        "import os, subprocess, sys; from functools import partial; from producer.processes import die_with_parent; "
        "child = subprocess.Popen(['sleep', '60'], preexec_fn=partial(die_with_parent, os.getpid())); "
        "print(child.pid, flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and alive(pid):
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
