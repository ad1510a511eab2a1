"""What is wrong with a process graph, without executing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.bands import COLLECTION
from sandbox.specs import process_spec
from sandbox.udp import is_remote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_FORMATS = {"NETCDF", "GTIFF", "COG", "JSON", "CSV"}


def problems(graph: Any, processes: Collection[str]) -> list[dict[str, str]]:
    """Errors in openEO's form; none means that the graph can be executed as far as can be told.

    Args:
        graph: what the client sent as process graph.
        processes: ids of the processes that execute.
    """
    if not isinstance(graph, dict) or not graph:
        return [_problem("ProcessGraphMissing", "No valid process graph specified.")]
    return list(_graph_problems(graph, processes))


def _graph_problems(graph: dict[str, Any], processes: Collection[str]) -> Iterator[dict[str, str]]:
    results = [name for name, node in graph.items() if isinstance(node, dict) and node.get("result")]
    if len(results) != 1:
        yield _problem("ProcessGraphMissing", f"A process graph needs one result node, this one has {len(results)}.")
    for name, node in graph.items():
        if not isinstance(node, dict) or "process_id" not in node:
            yield _problem("ProcessGraphMissing", f"Node {name!r} has no process_id.")
        elif is_remote(node):
            continue
        elif node["process_id"] not in processes:
            yield _problem("ProcessUnsupported", f"Process with identifier {node['process_id']!r} is not available.")
        else:
            yield from _node_problems(name, node, graph, processes)


def _node_problems(
    name: str, node: dict[str, Any], graph: dict[str, Any], processes: Collection[str]
) -> Iterator[dict[str, str]]:
    arguments = node.get("arguments", {})
    spec = process_spec(node["process_id"]) or {}
    for parameter in spec.get("parameters", []):
        if not parameter.get("optional") and parameter["name"] not in arguments:
            yield _problem("ProcessParameterMissing", f"Process {name!r} lacks the parameter {parameter['name']!r}.")
    if node["process_id"] == "load_collection" and arguments.get("id") != COLLECTION:
        yield _problem("CollectionNotFound", f"Collection {arguments.get('id')!r} does not exist.")
    if node["process_id"] == "save_result" and str(arguments.get("format")).upper() not in _FORMATS:
        yield _problem("FormatUnsupported", f"Output format {arguments.get('format')!r} is not supported.")
    for argument in arguments.values():
        yield from _argument_problems(argument, graph, processes)


def _argument_problems(argument: Any, graph: dict[str, Any], processes: Collection[str]) -> Iterator[dict[str, str]]:
    if isinstance(argument, list):
        for element in argument:
            yield from _argument_problems(element, graph, processes)
    elif isinstance(argument, dict) and "from_node" in argument:
        if argument["from_node"] not in graph:
            yield _problem("ProcessParameterInvalid", f"There is no node {argument['from_node']!r}.")
    elif isinstance(argument, dict) and isinstance(argument.get("process_graph"), dict):
        yield from _graph_problems(argument["process_graph"], processes)


def _problem(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}
