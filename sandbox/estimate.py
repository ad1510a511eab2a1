"""How many values a graph would load, without loading them."""

from __future__ import annotations

from typing import Any

from sandbox.bands import BANDS
from sandbox.errors import OpenEOError
from sandbox.grid import native_grid, window_of
from sandbox.load import parse_interval
from sandbox.sky import acquisitions


def estimate_values(process_graph: dict[str, Any]) -> int:
    """Sum over the load_collection nodes; scenes are counted at their usual revisit."""
    return sum(
        _values(node.get("arguments", {}))
        for node in process_graph.values()
        if node.get("process_id") == "load_collection"
    )


def _values(arguments: dict[str, Any]) -> int:
    extent = arguments.get("spatial_extent")
    if not isinstance(extent, dict):
        raise OpenEOError("ProcessParameterMissing", "load_collection needs a spatial_extent here.")
    window = window_of(extent, native_grid(extent))
    start, end = parse_interval(arguments.get("temporal_extent"))
    dates = sum(1 for _ in acquisitions(window.grid.epsg, start, end))
    return window.width * window.height * dates * len(arguments.get("bands") or BANDS)
