"""The faults a back-end can be told to show."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.spawn import Sandbox

GRAPH = {
    "load1": {
        "process_id": "load_collection",
        "arguments": {
            "id": "SENTINEL2_L2A",
            "spatial_extent": {"west": 4.40, "south": 51.10, "east": 4.41, "north": 51.11},
            "temporal_extent": ["2024-05-01", "2024-05-20"],
            "bands": ["B04"],
        },
        "result": True,
    },
}


@pytest.fixture
def session(sandbox: Sandbox) -> Iterator[requests.Session]:
    sandbox.clear_stats()
    with requests.Session() as session:
        log_in(session, sandbox)
        yield session


def log_in(session: requests.Session, sandbox: Sandbox) -> None:
    token = session.get(f"{sandbox.url}/credentials/basic", auth=("demo", "demo"), timeout=10).json()["access_token"]
    session.headers["Authorization"] = f"Bearer basic//{token}"


def create(session: requests.Session, sandbox: Sandbox, title: str = "job") -> str:
    body = {"title": title, "process": {"process_graph": GRAPH}}
    return session.post(f"{sandbox.url}/jobs", json=body, timeout=10).headers["OpenEO-Identifier"]


def start(session: requests.Session, sandbox: Sandbox, job: str) -> requests.Response:
    return session.post(f"{sandbox.url}/jobs/{job}/results", timeout=10)


def wait(session: requests.Session, sandbox: Sandbox, job: str) -> dict[str, Any]:
    for _ in range(400):
        described: dict[str, Any] = session.get(f"{sandbox.url}/jobs/{job}", timeout=10).json()
        if described["status"] in {"finished", "error", "canceled"}:
            return described
        time.sleep(0.05)
    raise AssertionError(described["status"])


def test_fast_jobs_execute_nothing_but_hold_their_slot(session: requests.Session, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True, job_seconds=0.2, parallel=4)
    jobs = [create(session, sandbox) for _ in range(8)]
    for job in jobs:
        assert start(session, sandbox, job).status_code == 202
    assert [wait(session, sandbox, job)["status"] for job in jobs] == ["finished"] * 8
    slots = sandbox.stats()["slots"]
    assert slots["size"] == 4
    assert 1.6 <= slots["busy_seconds"] < 8
    assert 0.2 < slots["business"] <= 1
    results = session.get(f"{sandbox.url}/jobs/{jobs[0]}/results", timeout=10).json()
    content = session.get(results["assets"]["openEO.nc"]["href"], timeout=10).content
    assert (content[:3], len(content)) == (b"CDF", results["assets"]["openEO.nc"]["file:size"])


def test_server_errors_repeat_with_their_seed(session: requests.Session, sandbox: Sandbox) -> None:
    runs = []
    for _ in range(2):
        sandbox.reset(server_errors=0.5, seed=7)
        answers = [session.get(f"{sandbox.url}/jobs?limit=1", timeout=10) for _ in range(12)]
        runs.append([answer.status_code for answer in answers])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 503}
    assert next(answer for answer in answers if answer.status_code == 503).headers["Retry-After"] == "1"


def test_rate_limit(session: requests.Session, sandbox: Sandbox) -> None:
    sandbox.behave(rate_limit=3, retry_after=2)
    answers = [session.get(f"{sandbox.url}/jobs?limit=1", timeout=10) for _ in range(6)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 2 <= len(refused) <= 4
    assert refused[0].headers["Retry-After"] == "2"
    assert refused[0].json()["code"] == "TooManyRequests"


def test_lost_answers_leave_a_job_behind(session: requests.Session, sandbox: Sandbox) -> None:
    sandbox.behave(lost_answers=1)
    with pytest.raises(requests.ConnectionError):
        create(session, sandbox, "lost but there")
    newest = session.get(f"{sandbox.url}/jobs?limit=1", timeout=10).json()["jobs"][0]
    assert (newest["title"], newest["status"]) == ("lost but there", "created")
    assert sandbox.stats()["faults"] == {"lost_answers": 1}


def test_limits_of_jobs_and_of_credits(session: requests.Session, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True, job_seconds=10, max_active_jobs=1)
    first, second = (create(session, sandbox) for _ in range(2))
    assert start(session, sandbox, first).status_code == 202
    refused = start(session, sandbox, second)
    assert (refused.status_code, refused.json()["code"]) == (400, "ConcurrentJobLimit")
    session.delete(f"{sandbox.url}/jobs/{first}", timeout=10)
    sandbox.behave(credits=0)
    refused = start(session, sandbox, second)
    assert (refused.status_code, refused.json()["code"]) == (402, "PaymentRequired")


@pytest.mark.parametrize(
    ("title", "changes", "code"),
    [("fail:OOM", {}, "OOM"), ("x", {"failing_jobs": 1, "failure": "NoDataAvailable"}, "NoDataAvailable")],
)
def test_failing_jobs(
    session: requests.Session, sandbox: Sandbox, title: str, changes: dict[str, Any], code: str
) -> None:
    sandbox.behave(fast=True, **changes)
    job = create(session, sandbox, title)
    start(session, sandbox, job)
    assert wait(session, sandbox, job)["status"] == "error"
    logs = session.get(f"{sandbox.url}/jobs/{job}/logs?level=error", timeout=10).json()["logs"]
    assert logs[0]["code"] == code
    sandbox.behave(failed_results_status=400)
    refused = session.get(f"{sandbox.url}/jobs/{job}/results", timeout=10)
    assert (refused.status_code, refused.json()["code"]) == (400, "JobNotFinished")


def test_a_slow_queue(session: requests.Session, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True, queue_seconds=0.6)
    job = create(session, sandbox)
    start(session, sandbox, job)
    time.sleep(0.3)
    assert session.get(f"{sandbox.url}/jobs/{job}", timeout=10).json()["status"] == "queued"
    assert wait(session, sandbox, job)["status"] == "finished"


def test_downloads_that_break_and_downloads_that_are_short(session: requests.Session, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True)
    job = create(session, sandbox)
    start(session, sandbox, job)
    wait(session, sandbox, job)
    asset = session.get(f"{sandbox.url}/jobs/{job}/results", timeout=10).json()["assets"]["openEO.nc"]
    sandbox.behave(broken_downloads=1)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.get(asset["href"], timeout=10)
    sandbox.behave(broken_downloads=0, short_downloads=1)
    assert len(session.get(asset["href"], timeout=10).content) == asset["file:size"] // 2


def test_tokens_expire_and_latency_is_added(session: requests.Session, sandbox: Sandbox) -> None:
    sandbox.behave(token_seconds=0.3)
    log_in(session, sandbox)
    assert session.get(f"{sandbox.url}/me", timeout=10).status_code == 200
    sandbox.behave(latency=0.35)
    answer = session.get(f"{sandbox.url}/me", timeout=10)
    assert answer.elapsed.total_seconds() >= 0.35
    assert (answer.status_code, answer.json()["code"]) == (403, "TokenInvalid")


def test_unknown_behaviour_is_refused(sandbox: Sandbox) -> None:
    url = sandbox.url.replace("/openeo/1.2", "/.sandbox/behaviour")
    assert requests.put(url, json={"no_such_switch": 1}, timeout=10).status_code == 400
    assert requests.put(url, json={"seed": "x"}, timeout=10).status_code == 400
