"""The conditions of load_collection's `properties`: small process graphs over one value."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from sandbox.errors import OpenEOError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OPERATORS: dict[str, Callable[..., Any]] = {
    "eq": lambda x, y, **_: x == y,
    "neq": lambda x, y, **_: x != y,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "between": lambda x, min, max, exclude_max=False: min <= x and (x < max if exclude_max else x <= max),  # noqa: A006
    "array_contains": lambda data, value: value in data,
    "and": lambda x, y: x and y,
    "or": lambda x, y: x or y,
    "not": lambda x: not x,
}
_POSITIONAL = {"lt", "lte", "gt", "gte"}


def holds(condition: dict[str, Any], value: Any) -> bool:
    """Whether a value meets a condition graph.

    Args:
        condition: `{"process_graph": {...}}` with the parameter `value`.
        value: the property's value.

    Raises:
        OpenEOError: for a process that cannot be a condition here.
    """
    graph: dict[str, Any] = condition.get("process_graph", condition)
    result = next((name for name, node in graph.items() if node.get("result")), None)
    if result is None:
        raise OpenEOError("ProcessParameterInvalid", "A condition of `properties` has no result node.")
    return bool(_evaluate(graph, result, value))


def meets(properties: Mapping[str, Callable[[], Any]], conditions: Mapping[str, Any]) -> bool:
    """Whether a scene's properties meet all conditions; an unknown property never does."""
    return all(name in properties and holds(condition, properties[name]()) for name, condition in conditions.items())


def _evaluate(graph: dict[str, Any], name: str, value: Any) -> Any:
    node = graph[name]
    process = _OPERATORS.get(node["process_id"])
    if process is None:
        raise OpenEOError("ProcessUnsupported", f"Process {node['process_id']!r} is not supported in `properties`.")
    arguments = {key: _argument(graph, argument, value) for key, argument in node["arguments"].items()}
    if node["process_id"] in _POSITIONAL:
        return process(arguments["x"], arguments["y"])
    return process(**arguments)


def _argument(graph: dict[str, Any], argument: Any, value: Any) -> Any:
    if isinstance(argument, dict) and "from_parameter" in argument:
        return value
    if isinstance(argument, dict) and "from_node" in argument:
        return _evaluate(graph, argument["from_node"], value)
    return argument
