"""What back-ends are asked for in a process of its own: answers are lines, and one bad job stops no other."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from openeo.rest import OpenEoApiError

from campaign.backends import Backend
from campaign.errors import FleetError
from producer import ask as asking
from workers import ask

BACKEND = Backend(name="local", url="http://127.0.0.1:9/openeo/1.2")


class Connection:
    """A back-end with jobs that stop, are gone, and fail."""

    def __init__(self, problems: dict[str, Exception]) -> None:
        self.problems = problems
        self.asked: list[str] = []

    def job(self, job_id: str) -> Connection:
        self.asked.append(job_id)
        return self

    def stop(self) -> None:
        if problem := self.problems.get(self.asked[-1]):
            raise problem


def refused(status: int, message: str) -> OpenEoApiError:
    return OpenEoApiError(http_status_code=status, code="Internal", message=message)


def stop_jobs(monkeypatch: pytest.MonkeyPatch, problems: dict[str, Exception]) -> tuple[list[str], list[str]]:
    connection = Connection(problems)
    monkeypatch.setattr(ask, "connect", lambda *_: connection)
    return ask.stop_jobs(BACKEND, ["a", "b", "c", "d"]), connection.asked


def test_one_job_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    problems: dict[str, Any] = {"b": refused(500, "sorry\nreally"), "c": requests.ConnectionError()}
    (line,), asked = stop_jobs(monkeypatch, problems)
    assert asked == ["a", "b", "c", "d"]
    assert line.startswith("2 of 4 jobs were not stopped, b first: back-end local (http")
    assert line.endswith("[500] Internal: sorry really")


def test_jobs_that_are_gone_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stop_jobs(monkeypatch, {"a": refused(404, "gone"), "b": refused(400, "done")})[0] == []


def test_an_answer_that_does_not_come_in_time() -> None:
    with pytest.raises(FleetError, match=r"did not answer within 0 s; try again$"):
        asking.log_in_problems([BACKEND], seconds=0.01)


def test_a_child_that_fails_says_so_on_one_line() -> None:
    with pytest.raises(FleetError) as told:
        asking._ask("nonsense", {"backends": [BACKEND.model_dump()]}, 60)
    assert str(told.value) == "asking the back-ends failed: KeyError: 'nonsense'"
