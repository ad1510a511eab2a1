"""`openeo-fleet check`: each thing that can be wrong is told in one clear line, and nothing is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.spawn import Sandbox, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = """
from campaign import Backend, Campaign
from producer.grids import prepare_jobs_df, utm_grid

def table():
    grid = utm_grid(bounds=(595000, 5660000, 597000, 5662000), crs="EPSG:32631", size=1000)
    return prepare_jobs_df(["2024-05-01", "2024-08-01"], grid)

campaign = Campaign(name="ndvi", table=table, backends=[Backend(name="local", url="{url}", auth="basic")], output="out")

def start_job(row, connection, **kwargs):
    return connection.load_collection("SENTINEL2_L2A").create_job()
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running(tmp_path_factory.mktemp("sandbox"), "--executors", "1", "--behaviour", "fast=1") as started:
        yield started


@pytest.fixture
def check(tmp_path: Path, sandbox: Sandbox) -> Any:
    def run(text: str, password: str = "demo", command: str = "check") -> subprocess.CompletedProcess[str]:
        path = tmp_path / "campaign.py"
        path.write_text(text.replace("{url}", sandbox.url), "utf-8")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
        environment |= {"FLEET_LOCAL_USERNAME": "demo", "FLEET_LOCAL_PASSWORD": password}
        arguments = [
            sys.executable,
            "-P",
            "-m",
            "producer.cli",
            command,
            str(path),
            "--workdir",
            str(tmp_path / "work"),
        ]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_a_good_campaign_passes(check: Any) -> None:
    done = check(GOOD)
    assert done.returncode == 0, done.stderr
    assert "4 tiles" in done.stdout


def edit(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


TABLE = "table=table, "
GRID = 'utm_grid(bounds=(595000, 5660000, 597000, 5662000), crs="EPSG:32631", size=1000)'
PROBLEMS = {
    "no start_job": (edit("def start_job", "def begin_job"), ["has no start_job"]),
    "no campaign": (edit("campaign = Campaign", "other = Campaign"), ["has no campaign"]),
    "syntax": (GOOD + "\ndef f(:\n", ["campaign.py, line 14"]),
    "unknown setting": (edit('output="out"', 'ouput="out"'), ["ouput", "Extra inputs are not permitted"]),
    "unknown CRS": (edit("EPSG:32631", "EPSG:99999"), ["EPSG:99999"]),
    "empty table": (edit(TABLE, "table=table().iloc[:0], "), ["empty"]),
    "one id twice": (edit(TABLE, 'table=table().assign(tile_id=["a", "b", "b", "c"]), '), ["'b'", "row 2", "row 1"]),
    "slip of the finger": (
        edit(GRID, 'utm_grid(bounds=(595000, 5660000, 600000, 56730000), crs="EPSG:32631", size=5000)'),
        ["10,214", "5,673,000"],
    ),
    "geometry outside the area of use": (
        edit(
            "    return prep",
            '    grid.loc[2, "geometry"] = __import__("shapely").box(4, 51, 4.1, 151)\n    return prep',
        ),
        ["row 2", "area of use"],
    ),
    "unknown back-end": (
        edit("prepare_jobs_df(", "tag(prepare_jobs_df(").replace(
            "grid)\n\n", 'grid))\n\ndef tag(df):\n    return df.assign(backend_name=["", "cdse", "", ""])\n\n'
        ),
        ["'cdse'", "row 1"],
    ),
    "back-end by an unknown name": (
        edit('backends=[Backend(name="local", url="{url}", auth="basic")]', 'backends=["cdse"]'),
        ["'cdse'", "backends.toml"],
    ),
    "back-end that does not answer": (edit("{url}", "http://127.0.0.1:9/openeo/1.2"), ["local", "does not answer"]),
    "not an openEO back-end": (edit('"{url}"', '"{url}/collections/nothing"'), ["local"]),
    "a name that the catalog has for itself": (edit('name="ndvi"', 'name="Catalog"'), ["name: ", "'Catalog'"]),
    "output that is no folder": (edit('output="out"', 'output="s3://bucket/ndvi"'), ["s3://bucket/ndvi", "a folder"]),
    "output that cannot be written": (edit('output="out"', 'output="/proc/nothing"'), ["output /proc/nothing"]),
    "a table function that raises": (
        edit("    grid = utm", '    raise KeyError("oops")\n    grid = utm'),
        ["line 6", "KeyError: 'oops'"],
    ),
    "a table that is not there": (edit(TABLE, 'table="tiles.parquet", '), ["tiles.parquet"]),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_wrong_is_told(check: Any, sandbox: Sandbox, name: str) -> None:
    text, words = PROBLEMS[name]
    sandbox.clear_stats()
    done = check(text)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in words), lines[0]
    assert "Traceback" not in done.stderr
    assert not [kind for kind in sandbox.stats()["requests"] if kind.startswith(("POST", "PUT", "DELETE"))]


def test_wrong_credentials_are_told_without_them(check: Any) -> None:
    done = check(GOOD, password="very-wrong")
    assert done.returncode == 2
    assert "FLEET_LOCAL_USERNAME and FLEET_LOCAL_PASSWORD were refused" in done.stderr
    assert "very-wrong" not in done.stderr + done.stdout


def test_missing_credentials_are_told(check: Any) -> None:
    done = check(GOOD, password="")
    assert done.returncode == 2
    assert "FLEET_LOCAL_USERNAME and FLEET_LOCAL_PASSWORD are not set" in done.stderr


def test_several_problems_are_told_together(check: Any) -> None:
    text = edit('output="out"', 'output="/proc/nothing"').replace("{url}", "http://127.0.0.1:9/x")
    done = check(text.replace(TABLE, "table=table().iloc[:0], "))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 3


def test_run_and_enqueue_refuse_as_check_does(check: Any, tmp_path: Path) -> None:
    for command in ("run", "enqueue"):
        done = check(GOOD, password="very-wrong", command=command)
        assert done.returncode == 2
        assert "were refused" in done.stderr
    assert not list((tmp_path / "work").rglob("*.nc"))
