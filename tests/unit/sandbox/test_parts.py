"""Small parts: behaviour, conditions, tokens, validation, charges."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.auth import ACCESS, REFRESH, Auth
from sandbox.behaviour import Behaviour, Dice, read_behaviour
from sandbox.cli import build_parser, options_from
from sandbox.conditions import holds
from sandbox.errors import OpenEOError
from sandbox.foreign import past_jobs
from sandbox.memory import is_too_small, size
from sandbox.options import Options
from sandbox.runner import charge
from sandbox.stats import Window, kind_of
from sandbox.store import Store
from sandbox.validation import problems

if TYPE_CHECKING:
    from pathlib import Path


def test_behaviour_from_settings_and_files(tmp_path: Path) -> None:
    file = tmp_path / "behaviour.json"
    file.write_text(json.dumps({"latency": 0.5, "items": "none"}))
    behaviour = read_behaviour(["seed=3", str(file), "latency=0.1", "signed_urls=true"])
    assert (behaviour.seed, behaviour.latency, behaviour.items, behaviour.signed_urls) == (3, 0.1, "none", True)
    for wrong in ("latncy=1", "fast=perhaps", "seed=x"):
        with pytest.raises(ValueError, match=r"behaviour|true or false|invalid literal"):
            read_behaviour([wrong])


def test_each_field_of_the_behaviour_is_simple() -> None:
    kinds = {field.name: type(getattr(Behaviour(), field.name)) for field in fields(Behaviour)}
    assert kinds.pop("script") is tuple
    assert set(kinds.values()) == {int, float, bool, str}


def test_a_script_is_read_from_text_and_from_lists() -> None:
    rules = [{"title": "a=[0-9]", "failure": "OOM", "times": 2}, {"cancel_after": "1.5"}]
    for behaviour in (read_behaviour([f"script={json.dumps(rules)}"]), Behaviour().changed({"script": rules})):
        first, second = behaviour.script
        assert (first.title, first.failure, first.times, first.cancel_after) == ("a=[0-9]", "OOM", 2, -1)
        assert (second.title, second.cancel_after, second.needs_memory) == ("", 1.5, "")
        # What is shown can be sent back.
        assert Behaviour().changed(json.loads(json.dumps(behaviour.to_dict()))) == behaviour
    assert Behaviour().changed({"script": ""}).script == ()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ([{"titel": "a"}], "Unknown key of a rule of the script titel"),
        ([{"title": "(a"}], "regular expression"),
        ([{"title": 1}], "regular expression"),
        ([{"times": "many"}], "times: invalid literal"),
        ([{"job_seconds": None}], "job_seconds"),
        ([{"needs_memory": "much"}], "needs_memory: 'much' is not a size"),
        ([{"lost_answer": "perhaps"}], "lost_answer is true or false"),
        ({"title": "a"}, "list of rules"),
        (["a"], "list of rules"),
        (3, "list of rules"),
        ("[{", "script is not JSON"),
    ],
)
def test_a_wrong_script_is_refused(script: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Behaviour().changed({"script": script})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("512", 512), ("2k", 2048), ("1.5G", 1.5 * 1024**3), ("500mb", 500 * 1024**2), ("1 TiB", 1024**4)],
)
def test_sizes_of_memory(text: str, expected: float) -> None:
    assert size(text) == expected


@pytest.mark.parametrize(
    ("submission", "too_small"),
    [
        ({"job_options": {"executor-memory": "3999m"}}, True),
        ({"job_options": {"executor-memory": "4G"}}, False),
        ({"executor-memory": "4096m"}, False),
        ({"executor-memory": "1g"}, True),
        ({"job_options": None}, True),
        ({}, True),
    ],
)
def test_whether_a_job_asks_for_enough_memory(submission: dict[str, Any], too_small: bool) -> None:  # noqa: FBT001
    assert is_too_small(submission, "4G") is too_small
    assert not is_too_small(submission, "")
    assert is_too_small({}, "2G") is False


def test_dice_repeat_and_meet_their_share() -> None:
    one, other = Dice(), Dice()
    drawn = [one.throw("x", 0.3, 1) for _ in range(2000)]
    assert drawn == [other.throw("x", 0.3, 1) for _ in range(2000)]
    assert 500 < sum(drawn) < 700
    assert drawn != [Dice().throw("x", 0.3, 2) for _ in range(2000)]


def node(process: str, **arguments: Any) -> dict[str, Any]:
    return {"process_graph": {"p1": {"process_id": process, "arguments": arguments, "result": True}}}


VALUE = {"from_parameter": "value"}


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        (node("lte", x=VALUE, y=60), 60, True),
        (node("lt", x=VALUE, y=60), 60, False),
        (node("gt", x=VALUE, y=60), 61, True),
        (node("eq", x=VALUE, y="S2A"), "S2A", True),
        (node("between", x=VALUE, min=1, max=2), 2, True),
        (node("between", x=VALUE, min=1, max=2, exclude_max=True), 2, False),
        (node("array_contains", data=["a"], value=VALUE), "b", False),
    ],
)
def test_conditions(condition: dict[str, Any], value: Any, expected: bool) -> None:  # noqa: FBT001
    assert holds(condition, value) is expected


def test_conditions_nest_and_refuse_what_they_do_not_know() -> None:
    graph = {
        "a": {"process_id": "gte", "arguments": {"x": VALUE, "y": 1}},
        "b": {"process_id": "lte", "arguments": {"x": VALUE, "y": 3}},
        "c": {"process_id": "and", "arguments": {"x": {"from_node": "a"}, "y": {"from_node": "b"}}, "result": True},
    }
    assert [holds({"process_graph": graph}, value) for value in (0, 2, 4)] == [False, True, False]
    with pytest.raises(OpenEOError):
        holds(node("sin", x=VALUE), 1)


def test_tokens_hold_for_their_kind_their_time_and_their_key(tmp_path: Path) -> None:
    auth = Auth(Options(tmp_path))
    token = auth.issue("ann|e", ACCESS)
    assert auth.read(token, ACCESS) == "ann|e"
    assert auth.read(token, REFRESH) is None
    assert auth.read(auth.issue("anne", ACCESS, -1), ACCESS) is None
    assert auth.read(token[:-2] + "xx", ACCESS) is None
    assert Auth(Options(tmp_path)).read(token, ACCESS) == "ann|e"
    (tmp_path / "other").mkdir()
    assert Auth(Options(tmp_path / "other")).read(token, ACCESS) is None
    assert not auth.password_fits("nobody", "")


def test_validation() -> None:
    graph = {
        "load1": {
            "process_id": "load_collection",
            "arguments": {"id": "NONE", "spatial_extent": None, "temporal_extent": None},
        },
        "ndvi1": {"process_id": "ndvi", "arguments": {"data": {"from_node": "gone"}}},
        "save1": {
            "process_id": "save_result",
            "arguments": {"data": {"from_node": "ndvi1"}, "format": "Zarr"},
            "result": True,
        },
    }
    codes = [problem["code"] for problem in problems(graph, {"load_collection", "ndvi", "save_result"})]
    assert codes == ["CollectionNotFound", "ProcessParameterInvalid", "FormatUnsupported"]
    assert [problem["code"] for problem in problems({}, set())] == ["ProcessGraphMissing"]
    missing = problems({"n": {"process_id": "ndvi", "arguments": {}, "result": True}}, {"ndvi"})
    assert [problem["code"] for problem in missing] == ["ProcessParameterMissing"]


def test_charges_grow_with_what_was_read() -> None:
    assert charge(1000) == charge(1000)
    assert charge(100_000_000)["costs"] > charge(9_500_000)["costs"] == 4.0


def test_kinds_of_requests() -> None:
    assert kind_of("GET", "/openeo/1.2/jobs/j-1/results/assets/a.nc") == "GET /jobs/{job}/results/assets/{file}"
    assert kind_of("GET", "/openeo/1.2") == "GET /"
    assert kind_of("POST", "/oidc/token") == "POST /oidc/token"


def test_options(tmp_path: Path) -> None:
    parser = build_parser()
    options = options_from(parser.parse_args(["--data", str(tmp_path), "--user", "a:b:c", "--client", "x:y"]))
    assert (options.users, options.clients) == ({"a": "b:c"}, {"x": "y"})
    for wrong in (["--user", "nobody"], ["--parallel", "0"], ["--scenes", str(tmp_path / "none")]):
        with pytest.raises(ValueError, match="--"):
            options_from(parser.parse_args(wrong))


def test_a_long_past_is_made_quickly(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    began = time.perf_counter()
    assert store.add_past(list(past_jobs(20_000, "demo", datetime.now(UTC))))
    assert time.perf_counter() - began < 2
    assert not store.add_past(list(past_jobs(3, "demo", datetime.now(UTC))))
    assert store.counts() == {"finished": 20_000}
    store.close()


def test_the_most_within_a_window() -> None:
    window = Window(1.0)
    for moment in (0.0, 0.6, 0.9, 1.3, 1.55, 3.0, 3.1):
        window.add(moment)
    # 0.6, 0.9, 1.3 and 1.55: within a second, though not within a second of the clock.
    assert window.most == 4
