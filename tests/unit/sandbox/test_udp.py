"""Processes defined at a URL are put into the graph that calls them."""

from __future__ import annotations

import http.server
import json
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.errors import OpenEOError
from sandbox.udp import expand
from sandbox.validation import problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REDUCER = {
    "process_graph": {"m": {"process_id": "mean", "arguments": {"data": {"from_parameter": "data"}}, "result": True}}
}
DEFINITION = {
    "id": "mean_ndvi",
    "parameters": [{"name": "cube"}, {"name": "dimension", "optional": True, "default": "t"}],
    "process_graph": {
        "ndvi": {"process_id": "ndvi", "arguments": {"data": {"from_parameter": "cube"}}},
        "mean": {
            "process_id": "reduce_dimension",
            "arguments": {
                "data": {"from_node": "ndvi"},
                "dimension": {"from_parameter": "dimension"},
                "reducer": REDUCER,
            },
            "result": True,
        },
    },
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "mean_ndvi.json").write_text(json.dumps(DEFINITION))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/mean_ndvi.json"
        server.shutdown()
        thread.join()


def calling(url: str, process_id: str = "mean_ndvi", **arguments: Any) -> dict[str, Any]:
    return {
        "ndvi": {"process_id": "load_collection", "arguments": {}},
        "u": {"process_id": process_id, "namespace": url, "arguments": arguments},
        "s": {"process_id": "save_result", "arguments": {"data": {"from_node": "u"}, "format": "CSV"}, "result": True},
    }


def test_parameters_defaults_and_names(url: str) -> None:
    graph = expand(calling(url, cube={"from_node": "ndvi"}))
    assert list(graph) == ["ndvi", "u_ndvi", "u", "s"]
    assert graph["u_ndvi"]["arguments"] == {"data": {"from_node": "ndvi"}}
    assert graph["u"]["arguments"] == {"data": {"from_node": "u_ndvi"}, "dimension": "t", "reducer": REDUCER}
    assert [name for name, node in graph.items() if node.get("result")] == ["s"]


def test_what_is_missing_is_named(url: str) -> None:
    with pytest.raises(OpenEOError, match="cube"):
        expand(calling(url))
    with pytest.raises(OpenEOError, match="other"):
        expand(calling(url, "other", cube={"from_node": "ndvi"}))
    with pytest.raises(OpenEOError, match="none"):
        expand(calling(url.replace("mean_ndvi", "none"), cube={"from_node": "ndvi"}))


def test_validation_leaves_remote_processes_to_execution(url: str) -> None:
    codes = [problem["code"] for problem in problems(calling(url), {"load_collection", "save_result"})]
    assert "ProcessUnsupported" not in codes
