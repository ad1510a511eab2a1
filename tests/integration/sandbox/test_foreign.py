"""Jobs that the user made elsewhere."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import requests

from sandbox.spawn import running

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.spawn import Sandbox
    from tests.integration.sandbox.conftest import Client

PAST = 20_000


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def test_a_folder_with_a_long_past(client: Client, tmp_path: Path) -> None:
    arguments = ("--executors", "1", "--foreign-jobs", str(PAST), "--behaviour", "fast=true")
    with running(tmp_path, *arguments) as sandbox:
        client.url = sandbox.url
        client.log_in()
        assert sandbox.stats()["jobs"] == {"finished": PAST}
        times = []
        for _ in range(5):
            began = time.monotonic()
            page = client.get("/jobs?limit=100").json()
            times.append(time.monotonic() - began)
        assert min(times) < 0.02
        newest, now = moment(page["jobs"][0]["created"]), datetime.now(UTC)
        assert timedelta(hours=1) <= now - newest < timedelta(hours=2)
        assert len({job.get("title") for job in page["jobs"]}) > 20
        own = client.run("mine")
        assert client.wait(own) == "finished"
        assert client.get("/jobs?limit=1").json()["jobs"][0]["id"] == own
        every = client.get("/jobs").json()["jobs"]
        created = [moment(job["created"]) for job in every]
        assert created == sorted(created, reverse=True)
        assert timedelta(days=364) < now - created[-1] < timedelta(days=366)
        assert client.get(f"/jobs/{every[-1]['id']}/results").json()["assets"] == {}
        client.delete(f"/jobs/{every[-1]['id']}")
        assert client.status(every[-2]["id"]) == "finished"
    with running(tmp_path, *arguments) as again:
        # Once in the life of a folder; what was deleted stays so.
        assert again.stats()["jobs"] == {"finished": PAST}
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        # Numbers of own jobs, from which chances are drawn, are those of a folder without a past.
        assert database.execute("SELECT seq FROM jobs WHERE id = ?", (own,)).fetchone() == (1,)
    database.close()


def test_the_past_is_the_first_clients(tmp_path: Path) -> None:
    with running(tmp_path, "--executors", "1", "--client", "robot:key", "--foreign-jobs", "3") as sandbox:
        form = {"grant_type": "client_credentials", "client_id": "robot", "client_secret": "key"}
        token = requests.post(sandbox.url.replace("/openeo/1.2", "/oidc/token"), data=form, timeout=10).json()
        bearer = {"Authorization": f"Bearer oidc/sandbox/{token['access_token']}"}
        assert len(requests.get(f"{sandbox.url}/jobs", headers=bearer, timeout=10).json()["jobs"]) == 3


def test_another_client_makes_jobs(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True, job_seconds=0.2)
    mine = client.create("mine")
    ids = sandbox.add_jobs(5, user="demo", title="theirs")
    assert client.titles("limit=6") == ["theirs"] * 5 + ["mine"]
    described = client.get(f"/jobs/{ids[0]}").json()
    assert described["status"] == "created"
    assert abs(datetime.now(UTC) - moment(described["created"])) < timedelta(seconds=5)
    assert client.status(mine) == "created"
    queued = sandbox.add_jobs(3, user="demo", status="queued")
    assert {client.status(job) for job in queued} <= {"queued", "running"}
    assert [client.wait(job) for job in queued] == ["finished"] * 3
    done = sandbox.add_jobs(1, user="demo", status="finished")
    assert client.status(done[0]) == "finished"
    # Without a user they are the first client's.
    assert client.get(f"/jobs/{sandbox.add_jobs(1)[0]}").status_code == 404


@pytest.mark.parametrize(
    "body", [{}, {"jobs": -1}, {"jobs": "5"}, {"jobs": 1, "status": "lost"}, {"jobs": 1, "user": 3}, {"job": 1}]
)
def test_what_is_no_number_of_jobs_is_refused(sandbox: Sandbox, body: dict[str, object]) -> None:
    url = sandbox.url.replace("/openeo/1.2", "/.sandbox/foreign-jobs")
    assert requests.post(url, json=body, timeout=10).status_code == 400
