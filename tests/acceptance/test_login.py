"""Tokens that end long before the jobs do; and where secrets are not to be found."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis

from producer.embedded_redis import socket_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOUR = (595000, 5660000, 597000, 5662000)

SECRETS = {
    "FLEET_ROBOT_CLIENT_SECRET": "open-sesame-robot",
    "FLEET_PERSON_PASSWORD": "open-sesame-person",
    "MY_PASSWORD": "open-sesame-custom",
}

CAMPAIGN = """
import json, os
from campaign import Backend, Campaign
from producer.grids import prepare_jobs_df, utm_grid

def table():
    frame = prepare_jobs_df(["2024-05-01", "2024-08-01"], utm_grid(bounds={bounds}, crs="{crs}", size=500))
    return frame.assign(backend_name=[["robot", "person", "kept", "own"][number % 4] for number in range(len(frame))])

def at(name, auth):
    return Backend(name=name, url="{url}", auth=auth, parallel_jobs=2, poll_interval=0.5)

campaign = Campaign(
    name="{name}",
    table=table,
    backends=[at("robot", "client_credentials"), at("person", "basic"), at("kept", "oidc"), at("own", "custom")],
    max_attempts=2,
)

def authenticate(connection, provider):
    connection.authenticate_basic("custom", os.environ["MY_PASSWORD"])

def start_job(row, connection, **kwargs):
    if row.name in (4, 5, 6, 7):
        raise RuntimeError("it was " + connection.auth.bearer.split("/")[-1])
    if row.name == 8:
        raise RuntimeError("it was " + os.environ["FLEET_ROBOT_CLIENT_SECRET"])
    return connection.load_collection("SENTINEL2_L2A").create_job(title="one")
"""


def test_tokens_that_end_before_the_jobs_do(fleet: Any, start_sandbox: Any, campaign_file: Any) -> None:
    fleet.environment |= {"FLEET_LOCAL_CLIENT_ID": "robot", "FLEET_LOCAL_CLIENT_SECRET": "key"}
    behaviour = ("--behaviour", "fast=1", "--behaviour", "job_seconds=8", "--behaviour", "token_seconds=5")
    with start_sandbox(*behaviour) as sandbox:
        done = fleet("run", str(campaign_file(sandbox.url, bounds=FOUR)), "--no-flower")
        stats = sandbox.stats()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 tiles published" in done.stdout
    assert stats["requests"]["POST /jobs"] == 4
    assert not {"401", "403"} & set(stats["statuses"]), stats["statuses"]
    assert 3 < stats["requests"]["POST /oidc/token"] < 30


@contextmanager
def watching(state_dir: Path) -> Iterator[set[str]]:
    """All that is in the fleet's Redis while a block lasts, keys and values of every type, as text."""
    found: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            if socket_path(state_dir).exists():
                with redis.Redis(unix_socket_path=str(socket_path(state_dir)), decode_responses=False) as client:
                    found.update(dump(client))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def dump(client: Any) -> Iterator[str]:
    read = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    try:
        for key in client.scan_iter(count=1000):
            kind = client.type(key)
            yield f"{key!r}"
            if kind != b"none":
                yield str(read[kind](key))
    except (redis.ConnectionError, redis.ResponseError):
        return  # not there yet, or not any more; a key that became another one


def unfolded(text: str) -> str:
    """A text and what is in it as base64: messages have bodies of that form."""
    inside = []
    for run in re.findall(r"[A-Za-z0-9+/]{24,}={0,2}", text):
        try:
            inside.append(base64.b64decode(run + "=" * (-len(run) % 4)).decode("utf-8"))
        except (binascii.Error, UnicodeDecodeError):
            continue
    return "\n".join([text, *inside])


def test_secrets_are_nowhere(fleet: Any, start_sandbox: Any, campaign_file: Any, tmp_path: Path) -> None:
    for folder in ("DATA", "CONFIG"):
        (tmp_path / folder / "openeo-python-client").mkdir(parents=True)
        fleet.environment[f"XDG_{folder}_HOME"] = str(tmp_path / folder)
    fleet.environment |= SECRETS | {"FLEET_ROBOT_CLIENT_ID": "machine", "FLEET_PERSON_USERNAME": "person"}
    users = ("--user", "person:open-sesame-person", "--user", "custom:open-sesame-custom")
    behaviour = ["fast=1", "job_seconds=2", "token_seconds=3", "failing_jobs=0.3", "server_errors=0.03"]
    behaviour += ["provider_errors=0.2", "single_use_refresh_tokens=1"]
    switches = [word for setting in behaviour for word in ("--behaviour", setting)]
    with start_sandbox("--client", "machine:open-sesame-robot", *users, *switches) as sandbox:
        sandbox.behave(provider_errors=0.0)
        file = str(campaign_file(sandbox.url, CAMPAIGN, bounds=FOUR))
        assert fleet("login", file).returncode == 0
        with watching(fleet.state_dir) as seen:
            done = fleet("run", file, "--no-flower")
        titles = sandbox.stats()
    assert done.returncode == 1, done.stdout + done.stderr
    files = {path: path.read_bytes().decode("utf-8", "replace") for path in fleet.workdir.rglob("*") if path.is_file()}
    logs = "".join(text for path, text in files.items() if path.suffix == ".log")
    texts = {"redis": "\n".join(seen), "output": done.stdout + done.stderr, "stats": str(titles), **files}
    assert "RuntimeError: it was ***" in texts["redis"]
    assert "RuntimeError: it was ***" in logs
    assert "authenticated_by" in texts["redis"]
    store = (tmp_path / "DATA" / "openeo-python-client" / "refresh-tokens.json").read_text("utf-8")
    assert "eyJ" in store
    for where, text in texts.items():
        plain = unfolded(text)
        for secret in (*SECRETS.values(), *re.findall(r"eyJ[\w.-]+", store)):
            assert secret not in plain, f"{secret} is in {where}"
        assert not re.search(r"eyJ[\w-]{10,}\.eyJ", plain), f"a token is in {where}"
