"""What a campaign that was enqueued goes on with, and what it refuses because it would cost jobs or lose results."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import openeo
import pytest

from campaign.store import TileStore
from campaign.tile import TileStatus
from producer.embedded_redis import embedded_redis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FOUR = (595000, 5660000, 597000, 5662000)
NOWHERE = "http://127.0.0.1:9/openeo/1.2"


@pytest.fixture(autouse=True)
def _credentials(fleet: Any) -> None:
    fleet.environment |= {"FLEET_LOCAL_CLIENT_ID": "robot", "FLEET_LOCAL_CLIENT_SECRET": "key"}


@pytest.fixture
def sandbox(start_sandbox: Any) -> Any:
    with start_sandbox("--behaviour", "fast=1") as started:
        yield started


def jobs(sandbox: Any) -> list[dict[str, Any]]:
    connection = openeo.connect(sandbox.url).authenticate_oidc_client_credentials("robot", "key")
    return list(connection.list_jobs(limit=1000))


def stopped(fleet: Any, wait_until: Callable[..., Any], *arguments: str) -> None:
    """Run until jobs are running and stop."""
    run = fleet.start("run", *arguments, "--no-flower")
    wait_until(lambda: fleet.counts("ndvi").get("running") == 2)
    os.kill(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=40)
    assert run.returncode == 130, output


def test_a_back_end_given_on_the_command_line_is_remembered_by_name(
    fleet: Any, sandbox: Any, campaign_file: Any, wait_until: Callable[..., Any]
) -> None:
    sandbox.behave(job_seconds=6.0)
    path = campaign_file(NOWHERE, bounds=FOUR)
    stopped(fleet, wait_until, str(path), "--backend", f"local={sandbox.url}")

    refused = fleet("run", str(path), "--no-flower")
    assert refused.returncode == 2, refused.stdout
    (line,) = refused.stderr.strip().splitlines()
    for word in (NOWHERE, sandbox.url, "4 jobs", f"--backend local={sandbox.url}"):
        assert word in line

    again = fleet("run", "ndvi", "--no-flower")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "4 of 4 tiles published" in again.stdout
    assert len(jobs(sandbox)) == 4


def test_a_back_end_that_is_down_does_not_stop_a_resume(
    fleet: Any, sandbox: Any, campaign_file: Any, wait_until: Callable[..., Any]
) -> None:
    sandbox.behave(job_seconds=30.0)
    path = campaign_file(sandbox.url, bounds=FOUR)
    stopped(fleet, wait_until, str(path))
    sandbox.stop()
    done = fleet("enqueue", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: back-end local")
    assert "does not answer" in done.stderr


@pytest.fixture
def store(fleet: Any) -> Any:
    """The store of the fleet, while no command runs."""

    def opened(act: Callable[[TileStore], Any]) -> Any:
        with embedded_redis(fleet.state_dir) as url:
            store = TileStore.connect(url)
            try:
                return act(store)
            finally:
                store.redis.close()

    return opened


def change(path: Path, old: str, new: str) -> str:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    return str(path)


TAGGED = """
def tagged(df):
    return df.assign(number=[f"n{n}" for n in range(len(df))])
"""


def test_other_ids_are_another_campaign(fleet: Any, sandbox: Any, campaign_file: Any) -> None:
    path = campaign_file(sandbox.url, bounds=FOUR)
    change(path, "import json", "import json\n" + TAGGED)
    change(path, "return prepare_jobs_df(", "return tagged(prepare_jobs_df(")
    change(path, "size=1000))", "size=1000)))")
    assert "4 tiles, 4 new" in fleet("enqueue", str(path)).stdout
    assert "4 tiles, 0 new" in fleet("enqueue", str(path)).stdout
    refused = fleet("enqueue", change(path, "table=table,", 'table=table, id_column="number",'))
    assert refused.returncode == 2
    assert "is not the one it was enqueued with" in refused.stderr
    assert fleet.status("ndvi")["by_status"] == {"not_started": 4}


def test_another_output_is_refused_once_results_are_there(
    fleet: Any, sandbox: Any, campaign_file: Any, store: Any
) -> None:
    path = campaign_file(sandbox.url, bounds=FOUR)
    assert fleet("enqueue", str(path)).returncode == 0
    assert fleet("enqueue", change(path, 'output="results"', 'output="second"')).returncode == 0
    assert fleet("run", str(path), "--no-flower").returncode == 0
    refused = fleet("run", change(path, 'output="second"', 'output="third"'))
    assert refused.returncode == 2
    assert str(fleet.workdir / "second") in refused.stderr
    assert str(fleet.workdir / "third") in refused.stderr


def test_waiting_tiles_follow_the_list_of_back_ends(fleet: Any, sandbox: Any, campaign_file: Any, store: Any) -> None:
    path = campaign_file(sandbox.url, bounds=FOUR)
    assert fleet("enqueue", str(path)).returncode == 0
    done = fleet("enqueue", change(path, 'Backend(name="local"', 'Backend(name="other"'))
    assert done.returncode == 0, done.stderr
    assert "warning: back-end other: cannot log in" in done.stderr
    assert "0 tasks sent" in done.stdout
    assert store(lambda found: (found.backend("local").waiting, found.backend("other").waiting)) == (0, 4)


def test_pauses_end_when_the_user_comes_back(fleet: Any, sandbox: Any, campaign_file: Any, store: Any) -> None:
    path = str(campaign_file(sandbox.url, bounds=FOUR))
    assert fleet("enqueue", path).returncode == 0

    def pause(found: TileStore) -> None:
        fields = {"paused_until": found.now() + 3600, "paused_reason": "auth: refused", "outages": 7}
        found.redis.hset(found.key("b", "local"), mapping=fields)

    store(pause)
    assert fleet.status("ndvi")["backends"]["local"]["paused"] == "auth: refused"
    assert fleet("enqueue", path).returncode == 0
    assert fleet.status("ndvi")["backends"]["local"]["paused"] is None
    assert store(lambda found: found.redis.hget(found.key("b", "local"), "outages")) is None


def test_status_tells_when_nobody_works(fleet: Any, sandbox: Any, campaign_file: Any, store: Any) -> None:
    assert fleet("enqueue", str(campaign_file(sandbox.url, bounds=FOUR))).returncode == 0
    assert fleet.status("ndvi")["last_tick"] is None
    assert "no worker has been seen yet: `openeo-fleet run` goes on" in fleet("status", "ndvi").stdout
    store(lambda found: found.redis.set(found.key("ticked"), found.now() - 60))
    assert 60 <= fleet.status("ndvi")["last_tick"] < 180
    assert re.search(r"no worker has been seen for \d+ s", fleet("status").stdout)


def test_watch_wants_one_campaign(fleet: Any, sandbox: Any, campaign_file: Any) -> None:
    for name in ("ndvi", "evi"):
        assert fleet("enqueue", str(campaign_file(sandbox.url, bounds=FOUR, name=name))).returncode == 0
    refused = fleet("status", "--watch")
    assert refused.returncode == 2
    assert "give a NAME, one of evi, ndvi" in refused.stderr
    assert [status["campaign"] for status in json.loads(fleet("status", "--json").stdout)] == ["evi", "ndvi"]


def test_watch_ends_with_ctrl_c(fleet: Any, sandbox: Any, campaign_file: Any) -> None:
    assert fleet("enqueue", str(campaign_file(sandbox.url, bounds=FOUR))).returncode == 0
    watch = fleet.start("status", "ndvi", "--watch")
    assert "4 not_started" in watch.stdout.readline()
    os.kill(watch.pid, signal.SIGINT)
    output, _ = watch.communicate(timeout=20)
    assert watch.returncode == 130
    assert "Traceback" not in output


def test_a_catalog_that_cannot_be_written_ends_the_run_with_its_reason(
    fleet: Any, sandbox: Any, campaign_file: Any, store: Any
) -> None:
    path = str(campaign_file(sandbox.url, bounds=FOUR))
    assert fleet("run", path, "--no-flower").returncode == 0

    def broken(found: TileStore) -> None:
        found.put_catalog_state("ndvi", published=0, errors=3, error="disk full")

    store(broken)
    watched = fleet("status", "ndvi", "--watch")
    assert watched.returncode == 3
    assert watched.stderr == "error: the catalog of ndvi cannot be brought up to date: disk full\n"
    again = fleet("run", path, "--no-flower")  # a new try counts anew
    assert again.returncode == 0, again.stderr


def test_results_are_fetched_again_where_the_user_says_so(
    fleet: Any, sandbox: Any, campaign_file: Any, store: Any
) -> None:
    path = str(campaign_file(sandbox.url, bounds=FOUR))
    assert fleet("run", path, "--no-flower").returncode == 0

    def fail(found: TileStore) -> None:
        tiles = list(found.tiles("ndvi", TileStatus.PUBLISHED))
        for tile, status in zip(tiles, (TileStatus.FAILED, TileStatus.FAILED, TileStatus.CANCELED), strict=False):
            key, kept = found.key("c", "ndvi", "t", tile.id), tile.job_id if tile.order != 1 else ""
            found.redis.hset(key, mapping={"status": status, "failed_step": "postprocess", "job_id": kept})
            found.redis.zrem(found.key("c", "ndvi", "s", "published"), tile.id)
            found.redis.zadd(found.key("c", "ndvi", "s", status), {tile.id: tile.order})

    store(fail)
    retried = fleet("retry", "ndvi", "--from", "postprocess")
    assert "1 tiles sent back" in retried.stdout, retried.stderr
    assert "1 tiles stay as they are" in retried.stdout
    assert "1 tiles sent back" in fleet("retry", "ndvi", "--status", "canceled").stdout
    assert fleet.status("ndvi")["by_status"] == {"finished": 2, "failed": 1, "published": 1}
    assert "1 tiles sent back" in fleet("retry", "ndvi", "--from", "submit").stdout
    assert fleet("run", path, "--no-flower").returncode == 0
    assert len(jobs(sandbox)) == 5


def test_a_second_cancel_stops_what_the_first_one_could_not(
    fleet: Any, sandbox: Any, campaign_file: Any, wait_until: Callable[..., Any]
) -> None:
    sandbox.behave(job_seconds=60.0)
    path = campaign_file(sandbox.url, bounds=FOUR)
    stopped(fleet, wait_until, str(path))
    secret = fleet.environment["FLEET_LOCAL_CLIENT_SECRET"]
    fleet.environment["FLEET_LOCAL_CLIENT_SECRET"] = "wrong-one"
    first = fleet("cancel", "ndvi")
    assert "4 tiles canceled" in first.stdout
    assert first.stderr.startswith("warning: jobs may still run there: back-end local: cannot log in")
    assert {job["status"] for job in jobs(sandbox)} == {"running", "created"}
    fleet.environment["FLEET_LOCAL_CLIENT_SECRET"] = secret
    second = fleet("cancel", "ndvi")
    assert "0 tiles canceled" in second.stdout
    assert second.stderr == ""
    assert [job["status"] for job in jobs(sandbox)] == ["canceled"] * 2  # those that never started are removed


def test_a_table_without_geometry_has_a_map(fleet: Any, sandbox: Any, campaign_file: Any) -> None:
    path = campaign_file(sandbox.url, bounds=FOUR)
    change(path, "size=1000))", 'size=1000)).drop(columns="geometry")')
    done = fleet("run", str(path), "--no-flower")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (fleet.workdir / "results" / "ndvi" / "map.html").exists()
    exported = fleet.workdir / "tiles.geojson"
    assert fleet("export", "ndvi", str(exported)).returncode == 0
    features = json.loads(exported.read_text("utf-8"))["features"]
    assert [feature["geometry"]["type"] for feature in features] == ["Polygon"] * 4


def test_a_map_that_cannot_be_drawn_spoils_nothing(fleet: Any, sandbox: Any, campaign_file: Any) -> None:
    path = campaign_file(sandbox.url, bounds=FOUR)
    (fleet.workdir / "results" / "ndvi" / "map.html").mkdir(parents=True)
    done = fleet("run", str(path), "--no-flower")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: no status map could be drawn" in done.stdout


def test_what_nobody_thought_of_is_one_line_and_a_log(fleet: Any, sandbox: Any, campaign_file: Any) -> None:
    assert fleet("enqueue", str(campaign_file(sandbox.url, bounds=FOUR))).returncode == 0
    config = fleet.state_dir / "redis" / "redis.conf"
    config.unlink()
    config.mkdir()
    done = fleet("status")
    assert done.returncode == 70
    (line,) = done.stderr.strip().splitlines()
    log = fleet.state_dir / "logs" / "openeo-fleet.log"
    assert line.startswith("error: IsADirectoryError")
    assert line.endswith(f"see {log})")
    assert "Traceback" in log.read_text("utf-8")
