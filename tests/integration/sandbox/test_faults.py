"""The faults a back-end can be told to show."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from sandbox.spawn import Sandbox
    from tests.integration.sandbox.conftest import Client


def test_fast_jobs_execute_nothing_but_hold_their_slot(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True, job_seconds=0.2, parallel=4)
    jobs = [client.create() for _ in range(8)]
    for job in jobs:
        assert client.start(job).status_code == 202
    assert [client.wait(job) for job in jobs] == ["finished"] * 8
    slots = sandbox.stats()["slots"]
    assert slots["size"] == 4
    assert 1.6 <= slots["busy_seconds"] < 8
    assert 0.2 < slots["business"] <= 1
    results = client.get(f"/jobs/{jobs[0]}/results").json()
    content = client.session.get(results["assets"]["openEO.nc"]["href"], timeout=10).content
    assert (content[:3], len(content)) == (b"CDF", results["assets"]["openEO.nc"]["file:size"])


def test_server_errors_repeat_with_their_seed(client: Client, sandbox: Sandbox) -> None:
    runs = []
    for _ in range(2):
        sandbox.reset(server_errors=0.5, seed=7)
        answers = [client.get("/jobs?limit=1") for _ in range(12)]
        runs.append([answer.status_code for answer in answers])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 503}
    assert next(answer for answer in answers if answer.status_code == 503).headers["Retry-After"] == "1"


def test_rate_limit(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(rate_limit=3, retry_after=2)
    answers = [client.get("/jobs?limit=1") for _ in range(6)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 2 <= len(refused) <= 4
    assert refused[0].headers["Retry-After"] == "2"
    assert refused[0].json()["code"] == "TooManyRequests"


def test_lost_answers_leave_a_job_behind(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(lost_answers=1)
    with pytest.raises(requests.ConnectionError):
        client.create("lost but there")
    newest = client.get("/jobs?limit=1").json()["jobs"][0]
    assert (newest["title"], newest["status"]) == ("lost but there", "created")
    assert sandbox.stats()["faults"] == {"lost_answers": 1}


def test_limits_of_jobs_and_of_credits(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True, job_seconds=10, max_active_jobs=1)
    first, second = (client.create() for _ in range(2))
    assert client.start(first).status_code == 202
    refused = client.start(second)
    assert (refused.status_code, refused.json()["code"]) == (400, "ConcurrentJobLimit")
    client.delete(f"/jobs/{first}")
    sandbox.behave(credits=0)
    refused = client.start(second)
    assert (refused.status_code, refused.json()["code"]) == (402, "PaymentRequired")


@pytest.mark.parametrize(
    ("title", "changes", "code"),
    [("fail:OOM", {}, "OOM"), ("x", {"failing_jobs": 1, "failure": "NoDataAvailable"}, "NoDataAvailable")],
)
def test_failing_jobs(client: Client, sandbox: Sandbox, title: str, changes: dict[str, Any], code: str) -> None:
    sandbox.behave(fast=True, **changes)
    job = client.create(title)
    client.start(job)
    assert client.wait(job) == "error"
    assert client.error_code(job) == code
    sandbox.behave(failed_results_status=400)
    refused = client.get(f"/jobs/{job}/results")
    assert (refused.status_code, refused.json()["code"]) == (400, "JobNotFinished")


def test_a_slow_queue(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True, queue_seconds=0.6)
    job = client.create()
    client.start(job)
    time.sleep(0.3)
    assert client.status(job) == "queued"
    assert client.wait(job) == "finished"


def test_downloads_that_break_and_downloads_that_are_short(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True)
    job = client.create()
    client.start(job)
    client.wait(job)
    asset = client.asset(job)
    sandbox.behave(broken_downloads=1)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.session.get(asset["href"], timeout=10)
    sandbox.behave(broken_downloads=0, short_downloads=1)
    assert len(client.session.get(asset["href"], timeout=10).content) == asset["file:size"] // 2


def test_tokens_expire_and_latency_is_added(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(token_seconds=0.3)
    client.log_in()
    assert client.get("/me").status_code == 200
    sandbox.behave(latency=0.35)
    answer = client.get("/me")
    assert answer.elapsed.total_seconds() >= 0.35
    assert (answer.status_code, answer.json()["code"]) == (403, "TokenInvalid")


def test_unknown_behaviour_is_refused(sandbox: Sandbox) -> None:
    url = sandbox.url.replace("/openeo/1.2", "/.sandbox/behaviour")
    assert requests.put(url, json={"no_such_switch": 1}, timeout=10).status_code == 400
    assert requests.put(url, json={"seed": "x"}, timeout=10).status_code == 400
