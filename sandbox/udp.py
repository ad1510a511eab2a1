"""User-defined processes given by a URL as namespace: fetched and put into the graph that calls them."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from sandbox.errors import OpenEOError

_TIMEOUT = 20.0
_MAX_BYTES = 5_000_000
_MAX_DEPTH = 10


def expand(graph: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """The graph with every remotely defined process replaced by its own graph, parameters filled in.

    Raises:
        OpenEOError: when a definition cannot be had, or a parameter has no value.
    """
    if depth > _MAX_DEPTH:
        raise OpenEOError("ProcessGraphComplexity", "User-defined processes are nested too deeply.")
    expanded: dict[str, Any] = {}
    for name, node in graph.items():
        if not is_remote(node):
            expanded[name] = node
            continue
        definition = _fetch(node["namespace"], node["process_id"])
        inner = expand(_with_parameters(definition, node.get("arguments", {})), depth + 1)
        expanded |= _placed(inner, name, is_result=bool(node.get("result")))
    return expanded


def is_remote(node: dict[str, Any]) -> bool:
    """Whether a node's process is defined at a URL."""
    return str(node.get("namespace") or "").startswith(("http://", "https://"))


def _fetch(url: str, process_id: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310 - is_remote allows http(s) only
            definition = json.loads(answer.read(_MAX_BYTES))
    except (OSError, ValueError) as error:
        raise OpenEOError(
            "ProcessUnsupported", f"Process {process_id!r} could not be had from {url}: {error}"
        ) from error
    candidates = definition.get("processes", [definition])
    found: dict[str, Any] | None = next((process for process in candidates if process.get("id") == process_id), None)
    if found is None or "process_graph" not in found:
        raise OpenEOError("ProcessUnsupported", f"There is no process {process_id!r} at {url}.")
    return found


def _with_parameters(definition: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The definition's graph with its own parameters replaced by arguments or defaults."""
    values = {p["name"]: p["default"] for p in definition.get("parameters", []) if "default" in p}
    values |= {
        p["name"]: None for p in definition.get("parameters", []) if p.get("optional") and p["name"] not in values
    }
    values |= arguments
    missing = [p["name"] for p in definition.get("parameters", []) if p["name"] not in values]
    if missing:
        raise OpenEOError("ProcessParameterMissing", f"Process {definition['id']!r} lacks the parameters {missing}.")
    filled: dict[str, Any] = _filled(definition["process_graph"], values)
    return filled


def _filled(content: Any, values: dict[str, Any]) -> Any:
    """Content with `from_parameter` replaced where the name is one of ours; callbacks keep theirs."""
    if isinstance(content, list):
        return [_filled(element, values) for element in content]
    if not isinstance(content, dict):
        return content
    if content.keys() == {"from_parameter"} and content["from_parameter"] in values:
        value = values[content["from_parameter"]]
        # What the caller gives refers to the caller's nodes: marked, so that placing does not rename it.
        return {"outer": value["from_node"]} if isinstance(value, dict) and value.keys() == {"from_node"} else value
    return {key: _filled(element, values) for key, element in content.items()}


def _placed(inner: dict[str, Any], name: str, *, is_result: bool) -> dict[str, Any]:
    """The inner graph's nodes under names of their own; its result node takes the name of the node it replaces."""
    names = {key: name if node.get("result") else f"{name}_{key}" for key, node in inner.items()}
    placed = {}
    for key, node in inner.items():
        arguments = {argument: _renamed(value, names) for argument, value in node.get("arguments", {}).items()}
        placed[names[key]] = {**node, "arguments": arguments, "result": is_result and bool(node.get("result"))}
    return placed


def _renamed(content: Any, names: dict[str, str]) -> Any:
    if isinstance(content, list):
        return [_renamed(element, names) for element in content]
    if not isinstance(content, dict) or "process_graph" in content:
        return content
    if content.keys() == {"outer"}:
        return {"from_node": content["outer"]}
    if content.keys() == {"from_node"}:
        return {"from_node": names.get(content["from_node"], content["from_node"])}
    return {key: _renamed(element, names) for key, element in content.items()}
