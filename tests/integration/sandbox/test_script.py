"""What is scripted to happen to jobs, by their titles."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from sandbox.spawn import running

if TYPE_CHECKING:
    from pathlib import Path

    import openeo

    from sandbox.spawn import Sandbox
    from tests.integration.sandbox.conftest import Client


def wait_until(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def script(sandbox: Sandbox, *rules: dict[str, Any], **others: Any) -> None:
    sandbox.behave(fast=True, script=list(rules), **others)


def test_only_the_first_so_many_jobs_that_match_fail(client: Client, sandbox: Sandbox) -> None:
    script(
        sandbox, {"title": r"tile-7\b", "failure": "NoDataAvailable", "times": 2}, {"title": "tile-7$", "failure": "X"}
    )
    jobs = [client.run(title) for title in ("a tile-7", "tile-77", "tile-7 b", "tile-7 c", "a tile-7")]
    assert [client.wait(job) for job in jobs] == ["error", "finished", "error", "finished", "error"]
    assert [client.error_code(jobs[number]) for number in (0, 2, 4)] == ["NoDataAvailable", "NoDataAvailable", "X"]
    # A job keeps its rule: the second run is no further one.
    client.start(jobs[0])
    assert client.wait(jobs[0]) == "error"
    # Set anew, it begins anew.
    script(sandbox, {"title": r"tile-7\b", "failure": "NoDataAvailable", "times": 1})
    assert [client.wait(client.run("tile-7")) for _ in range(2)] == ["error", "finished"]


def test_marked_titles_fail_all_the_same(client: Client, sandbox: Sandbox) -> None:
    script(sandbox, {"failure": "OOM"})
    job = client.run("fail:Internal tile")
    client.wait(job)
    assert client.error_code(job) == "Internal"


def test_a_lost_answer_and_a_job_that_is_seen_late(client: Client, sandbox: Sandbox) -> None:
    script(sandbox, {"title": "lost", "lost_answer": True, "late_seconds": 0.6, "times": 1})
    before = client.create("before")
    with pytest.raises(requests.ConnectionError):
        client.create("lost 1")
    lost = time.monotonic()
    assert client.titles("limit=1") == ["before"]
    client.create("lost 2")
    assert client.titles("limit=2") == ["lost 2", "before"]
    wait_until(lambda: client.titles("limit=3") == ["lost 2", "lost 1", "before"])
    assert time.monotonic() - lost > 0.5
    assert client.status(before) == "created"
    assert sandbox.stats()["faults"] == {"lost_answers": 1}


def test_a_job_that_is_known_by_its_id_only_later(client: Client, sandbox: Sandbox) -> None:
    script(sandbox, {"late_seconds": 0.5})
    job = client.create()
    unknown = client.start(job)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "JobNotFound")
    wait_until(lambda: client.get(f"/jobs/{job}").status_code == 200)
    assert client.start(job).status_code == 202
    assert client.wait(job) == "finished"


def test_a_refused_job_loses_no_answer(client: Client, sandbox: Sandbox) -> None:
    script(sandbox, {"lost_answer": True})
    assert client.post("/jobs", json={"title": "no graph"}).status_code == 400


def test_a_lost_start(client: Client, sandbox: Sandbox) -> None:
    script(sandbox, {"title": "lost", "lost_start": True}, job_seconds=0.5)
    job = client.create("lost")
    with pytest.raises(requests.ConnectionError):
        client.start(job)
    assert client.status(job) in {"queued", "running"}
    assert client.start(job).status_code == 202
    assert client.wait(job) == "finished"
    assert sandbox.stats()["faults"] == {"lost_starts": 1}


def test_how_long_single_jobs_take(client: Client, sandbox: Sandbox) -> None:
    script(sandbox, {"title": "quick", "job_seconds": 0}, {"title": "slow", "job_seconds": 60}, job_seconds=0.6)
    quick, slow, usual = (client.run(title) for title in ("quick", "slow", "usual"))
    wait_until(lambda: client.status(quick) == "finished", 0.5)
    assert client.wait(usual) == "finished"
    assert client.status(slow) == "running"
    client.delete(f"/jobs/{slow}")


def test_a_job_that_waits_in_the_queue_holds_up_no_other(client: Client, sandbox: Sandbox) -> None:
    script(sandbox, {"title": "long", "queue_seconds": 1.5}, {"title": "short", "queue_seconds": 0}, queue_seconds=0.6)
    began = time.monotonic()
    long, short, usual = (client.run(title) for title in ("long", "short", "usual"))
    wait_until(lambda: client.status(short) == "finished", 0.5)
    assert client.status(usual) == "queued"
    assert client.wait(usual) == "finished"
    assert client.status(long) == "queued"
    assert client.wait(long) == "finished"
    assert 1.5 <= time.monotonic() - began < 3


def test_memory_that_jobs_need(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True, needs_memory="3G", script=[{"title": "big", "needs_memory": "8G"}])
    sizes = [("job", "2G"), ("job", "3072m"), ("big", "4G"), ("big", "8g")]
    jobs = [client.run(title, job_options={"executor-memory": memory}) for title, memory in sizes]
    jobs.append(client.run("big", **{"executor-memory": "9G"}))
    assert [client.wait(job) for job in jobs] == ["error", "finished", "error", "finished", "finished"]
    assert client.error_code(jobs[0]) == "OOM"
    logs = client.get(f"/jobs/{jobs[0]}/logs?level=error").json()["logs"]
    assert "used too much memory" in logs[0]["message"]


def test_memory_as_the_openeo_client_asks_for_it(connection: openeo.Connection, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True, needs_memory="3G")
    cube = connection.load_collection("SENTINEL2_L2A", {"west": 4, "south": 51, "east": 4.1, "north": 51.1})
    ended = []
    for options in (None, {"executor-memory": "2G"}, {"executor-memory": "4G"}):
        job = cube.create_job(job_options=options)
        job.start()
        wait_until(lambda job=job: job.status() in {"error", "finished"})
        ended.append(job.status())
    assert ended == ["error", "error", "finished"]


def test_downloads_of_single_jobs(client: Client, sandbox: Sandbox) -> None:
    script(
        sandbox,
        {"title": "broken", "broken_download": True, "downloads": 1},
        {"title": "short", "short_download": True},
    )
    broken, short, good = (client.run(title) for title in ("broken", "short", "good"))
    for job in (broken, short, good):
        client.wait(job)
    asset = client.asset(broken)
    size = asset["file:size"]
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.session.get(asset["href"], timeout=10)
    hrefs = [asset["href"], client.asset(short)["href"], client.asset(short)["href"], client.asset(good)["href"]]
    lengths = [len(client.session.get(href, timeout=10).content) for href in hrefs]
    assert lengths == [size, size // 2, size // 2, size]
    assert sandbox.stats()["faults"] == {"broken_downloads": 1, "short_downloads": 2}


def test_the_operator_cancels_and_deletes(client: Client, sandbox: Sandbox) -> None:
    script(
        sandbox,
        {"title": "cancel", "cancel_after": 0.4},
        {"title": "vanish", "vanish_after": 0.4},
        {"title": "results", "vanish_after": 0.4, "job_seconds": 0},
        job_seconds=60,
        parallel=5,
    )
    cancelled, vanished, finished, other = (client.run(title) for title in ("cancel", "vanish", "results", "x"))
    wait_until(lambda: client.status(finished) == "finished", 0.35)
    assert [client.status(job) for job in (cancelled, vanished)] == ["running", "running"]
    assert client.wait(cancelled) == "canceled"
    assert "operator" in client.get(f"/jobs/{cancelled}/logs").json()["logs"][-1]["message"]
    for job in (vanished, finished):
        wait_until(lambda job=job: client.get(f"/jobs/{job}").status_code == 404)
    assert client.status(other) == "running"
    # A script that comes later holds for what runs, too.
    sandbox.behave(script=[{"title": "^x$", "cancel_after": 0}])
    assert client.wait(other) == "canceled"
    wait_until(lambda: sandbox.stats()["slots"]["busy"] == 0)


def test_the_operators_time_runs_from_the_last_start(client: Client, sandbox: Sandbox) -> None:
    script(sandbox, {"title": "cancel", "cancel_after": 1.2}, job_seconds=60)
    job = client.run("cancel")
    client.delete(f"/jobs/{job}/results")
    time.sleep(0.7)
    client.start(job)
    time.sleep(0.7)
    assert client.status(job) == "running"
    assert client.wait(job) == "canceled"


def test_a_restart_forgets_neither_counts_nor_deadlines(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    rules = (
        '[{"title": "bad", "failure": "OOM", "times": 1}, {"title": "gone", "vanish_after": 1.5, "job_seconds": 60}]'
    )
    arguments = ("--executors", "1", "--behaviour", "fast=true", "--behaviour", f"script={rules}")
    with running(tmp_path, *arguments) as first:
        client.url = first.url
        client.log_in()
        assert client.wait(client.run("bad")) == "error"
        gone = client.run("gone")
        wait_until(lambda: client.status(gone) == "running")
    with running(tmp_path, *arguments) as second:
        client.url = second.url
        assert client.wait(client.run("bad")) == "finished"
        wait_until(lambda: client.get(f"/jobs/{gone}").status_code == 404)


def test_a_wrong_script_is_refused(sandbox: Sandbox) -> None:
    url = sandbox.url.replace("/openeo/1.2", "/.sandbox/behaviour")
    refused = requests.patch(url, json={"script": [{"titel": "x"}]}, timeout=10)
    assert refused.status_code == 400
    assert "Unknown key of a rule of the script titel" in refused.json()["message"]
