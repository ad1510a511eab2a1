"""Listings of jobs, how many there may be, and what is counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from sandbox.spawn import Sandbox
    from tests.integration.sandbox.conftest import Client


def pages(client: Client, limit: int) -> list[list[str]]:
    found, query = [], f"limit={limit}"
    while query:
        page = client.get(f"/jobs?{query}").json()
        found.append([job["title"] for job in page["jobs"]])
        following = [link["href"] for link in page["links"] if link["rel"] == "next"]
        query = urlsplit(following[0]).query if following else ""
    return found


def test_the_oldest_first(client: Client, sandbox: Sandbox) -> None:
    for job in client.get("/jobs").json()["jobs"]:
        client.delete(f"/jobs/{job['id']}")
    for number in range(5):
        client.create(str(number))
    assert pages(client, 2) == [["4", "3"], ["2", "1"], ["0"]]
    sandbox.behave(oldest_first=True)
    assert pages(client, 2) == [["0", "1"], ["2", "3"], ["4"]]
    sandbox.behave(ignore_limit=True)
    assert pages(client, 2) == [["0", "1", "2", "3", "4"]]


def test_a_limit_of_jobs_that_are_not_started(client: Client, sandbox: Sandbox) -> None:
    for job in client.get("/jobs").json()["jobs"]:
        client.delete(f"/jobs/{job['id']}")
    sandbox.behave(fast=True, created_jobs_limit=2)
    first, _ = client.create(), client.create()
    body = {"process": {"process_graph": {"a": {"process_id": "add", "arguments": {}, "result": True}}}}
    refused = client.post("/jobs", json=body)
    assert (refused.status_code, refused.json()["code"]) == (400, "JobLimit")
    client.start(first)
    assert client.post("/jobs", json=body).status_code == 201


def test_requests_and_submissions_are_counted_over_time(client: Client, sandbox: Sandbox) -> None:
    sandbox.clear_stats()
    began = time.time()
    for _ in range(12):
        client.get("/")
    quick = time.time() - began
    time.sleep(1.2)
    client.create()
    client.create()
    client.post("/jobs", json={})
    time.sleep(1)
    stats = sandbox.stats()
    assert sum(stats["requests"].values()) == 15
    assert quick > 0.9 or stats["most_requests_in_a_second"] == 12
    seconds = stats["seconds_by_requests"]
    assert list(seconds) == ["0", "1-9", "10-19", "20-49", "50-99", "100+"]
    assert sum(seconds.values()) == int(stats["seconds"])
    assert seconds["1-9"] + seconds["10-19"] >= 1
    assert len(stats["submissions"]) == 2
    assert began + 1.2 <= stats["submissions"][0] + 0.001 <= stats["submissions"][1] + 0.001 <= time.time() + 0.001
    assert stats["most_submissions_in_a_minute"] == 2
    sandbox.clear_stats()
    assert sandbox.stats()["submissions"] == []
