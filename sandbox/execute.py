"""Execute one process graph: parse, load, compute, save."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from openeo_pg_parser_networkx import OpenEOProcessGraph

from sandbox.errors import OpenEOError
from sandbox.processes import OPAQUE, build_registry, process_names
from sandbox.save import SavedFile, SaveRequest, save
from sandbox.scenes import GeneratedScenes
from sandbox.udp import expand

if TYPE_CHECKING:
    from sandbox.bands import SceneCollection


@dataclass
class Outcome:
    """What executing a graph left behind."""

    files: list[SavedFile]
    values: int
    """Number of values load_collection read."""


class Engine:
    """Everything that is set up once and used for many graphs."""

    def __init__(self, scenes: str | None) -> None:
        self._loaded = 0
        self._registry = build_registry(_collection(scenes), self._count)

    @property
    def processes(self) -> list[str]:
        """Ids of the processes that execute."""
        return process_names(self._registry)

    def run(self, process_graph: dict[str, Any], folder: Path) -> Outcome:
        """Execute a process graph and write its result into a folder.

        Raises:
            OpenEOError: for what the user did wrong or asked too much of.
        """
        self._loaded = 0
        folder.mkdir(parents=True, exist_ok=True)
        process_graph = expand(process_graph)
        self._check(process_graph)
        graph = OpenEOProcessGraph(pg_data={"process_graph": _shield(process_graph)})
        with warnings.catch_warnings():
            # Pixels that are nodata on every date: NaN is what is wanted.
            warnings.filterwarnings("ignore", category=RuntimeWarning)
            result = graph.to_callable(self._registry)()
        return Outcome(save(_request(result), folder), self._loaded)

    def _count(self, cube: xr.DataArray) -> None:
        self._loaded += cube.size

    def _check(self, process_graph: dict[str, Any]) -> None:
        """Every process of the graph and of its callbacks is one of ours.

        Raises:
            OpenEOError: ProcessUnsupported for the first that is not.
        """
        for node in process_graph.values():
            if ("predefined", node["process_id"]) not in list(self._registry):
                raise OpenEOError(
                    "ProcessUnsupported", f"Process with identifier {node['process_id']!r} is not available."
                )
            if node["process_id"] != "load_collection":
                for argument in node.get("arguments", {}).values():
                    if isinstance(argument, dict) and "process_graph" in argument:
                        self._check(argument["process_graph"])


def _collection(scenes: str | None) -> SceneCollection:
    if scenes is None:
        return GeneratedScenes()
    from sandbox.scene_folder import FolderScenes  # noqa: PLC0415 - only where real scenes are wanted

    return FolderScenes(Path(scenes))


def _shield(process_graph: dict[str, Any]) -> dict[str, Any]:
    """The graph with load_collection's arguments, and any GeoJSON, as text.

    The parser would take conditions apart, guess at types, and walk through every coordinate.
    """
    shielded = {}
    for name, node in process_graph.items():
        arguments = node.get("arguments", {})
        if node["process_id"] == "load_collection":
            kept: dict[str, Any] = {OPAQUE: json.dumps(arguments)}
        else:
            kept = {key: json.dumps(value) if _is_geojson(value) else value for key, value in arguments.items()}
        shielded[name] = {**node, "arguments": kept}
    return shielded


def _is_geojson(value: Any) -> bool:
    return isinstance(value, dict) and "type" in value and not {"coordinates", "features", "geometry"}.isdisjoint(value)


def _request(result: Any) -> SaveRequest:
    """What to write: what save_result asked for, else the cube as GeoTIFF."""
    if isinstance(result, SaveRequest):
        return result
    if isinstance(result, xr.DataArray):
        return SaveRequest(result, "GTiff" if {"x", "y"} <= set(result.dims) else "JSON")
    return SaveRequest(xr.DataArray(result), "JSON")
