"""Specifications of processes, read from the JSON files of openeo-processes-dask without importing its implementations."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any


@functools.cache
def _folder() -> Path:
    found = importlib.util.find_spec("openeo_processes_dask_slim")
    if found is None or found.origin is None:
        raise ImportError("The sandbox needs openeo-processes-dask-slim[implementations].")
    return Path(found.origin).parent / "specs" / "openeo-processes"


@functools.cache
def process_spec(name: str) -> dict[str, Any] | None:
    """The openEO specification of a process, or None if the package has none."""
    path = _folder() / f"{name}.json"
    if not path.is_file():
        return None
    spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return spec
