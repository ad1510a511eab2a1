"""A back-end that is down, in trouble, or knows its users no longer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from sandbox.spawn import Sandbox
    from tests.integration.sandbox.conftest import Client


def grant(sandbox: Sandbox, **fields: str) -> requests.Response:
    url = sandbox.url.replace("/openeo/1.2", "/oidc/token")
    return requests.post(url, data={"grant_type": "client_credentials", "client_id": "robot", **fields}, timeout=10)


def test_server_errors_of_each_kind_repeat_with_their_seed(client: Client, sandbox: Sandbox) -> None:
    runs = []
    for seed in (7, 7, 8):
        sandbox.reset(server_errors=1, server_error_status=0, seed=seed)
        runs.append([client.get("/jobs?limit=1").status_code for _ in range(40)])
    assert set(runs[0]) == {500, 502, 503, 504}
    assert runs[0] == runs[1] != runs[2]


def test_down_until_told_otherwise(client: Client, sandbox: Sandbox) -> None:
    assert sandbox.behave(down=True)["down"] < 0
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            client.get("/")
    with pytest.raises(requests.ConnectionError):
        grant(sandbox, client_secret="key")
    assert sandbox.stats()["faults"] == {"down": 3}
    assert sandbox.behave(down=False)["down"] == 0
    assert client.get("/").status_code == 200


def test_down_for_a_while(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(down=0.8)
    with pytest.raises(requests.ConnectionError):
        client.get("/")
    time.sleep(0.6)
    # Other changes make it last no longer.
    sandbox.behave(latency=0.01)
    time.sleep(0.25)
    assert client.get("/").status_code == 200


def test_a_job_goes_on_while_the_server_is_down(client: Client, sandbox: Sandbox) -> None:
    sandbox.behave(fast=True, job_seconds=0.2)
    job = client.run()
    sandbox.behave(down=0.5)
    time.sleep(0.6)
    assert client.status(job) == "finished"


def test_revoked_credentials_are_good_for_nothing(client: Client, sandbox: Sandbox) -> None:
    token = grant(sandbox, client_secret="key").json()["access_token"]
    sandbox.behave(revoked=True)
    refused = client.get("/jobs")
    assert (refused.status_code, refused.json()["code"]) == (403, "TokenInvalid")
    bearer = {"Authorization": f"Bearer oidc/sandbox/{token}"}
    assert requests.get(f"{sandbox.url}/jobs", headers=bearer, timeout=10).status_code == 403
    again = grant(sandbox, client_secret="key")
    assert (again.status_code, again.json()) == (401, {"error": "invalid_client"})
    refused = requests.get(f"{sandbox.url}/credentials/basic", auth=("demo", "demo"), timeout=10)
    assert (refused.status_code, refused.json()["code"]) == (403, "CredentialsInvalid")
    user_info = sandbox.url.replace("/openeo/1.2", "/oidc/userinfo")
    assert requests.get(user_info, headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code == 401
    sandbox.behave(revoked=False)
    assert client.get("/jobs").status_code == 200
