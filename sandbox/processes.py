"""The processes this back-end executes: openeo-processes-dask's, and our own where data comes in, goes out or is missing."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import xarray as xr
from openeo_pg_parser_networkx.process_registry import Process, ProcessRegistry
from openeo_processes_dask_slim.process_implementations.core import process, standard_processes
from openeo_processes_dask_slim.process_implementations.cubes.indices import ndvi as ndvi_without_bands
from openeo_processes_dask_slim.process_implementations.cubes.merge import merge_cubes as merge_plain_cubes

from sandbox.bands import BANDS
from sandbox.load import load_collection
from sandbox.save import SaveRequest
from sandbox.spatial import aggregate_spatial, filter_spatial, mask_polygon
from sandbox.specs import process_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.bands import SceneCollection

#: load_collection's arguments travel through the parser as one text under this name, so that it leaves them alone.
OPAQUE = "arguments_as_json"
#: Listed by the package but in need of what the slim distribution leaves out.
_NOT_EXECUTABLE = frozenset({"load_geojson", "vector_buffer", "vector_reproject", "export_workspace"})


def build_registry(collection: SceneCollection, loaded: Callable[[xr.DataArray], None]) -> ProcessRegistry:
    """Every process that really executes, with its specification.

    Args:
        collection: where load_collection reads.
        loaded: told of each cube that was loaded, for the job's usage.
    """
    importlib.import_module("openeo_processes_dask_slim.process_implementations")
    registry = ProcessRegistry(wrap_funcs=[process])
    for function in [
        *standard_processes,
        mask_polygon,
        filter_spatial,
        aggregate_spatial,
        ndvi,
        merge_cubes,
        save_result,
    ]:
        name = function.__name__.strip("_")
        spec = process_spec(name)
        if spec is not None and name not in _NOT_EXECUTABLE:
            registry[name] = Process(spec=spec, implementation=function)
    registry["load_collection"] = Process(
        spec=process_spec("load_collection"), implementation=_loader(collection, loaded)
    )
    return registry


def process_names(registry: ProcessRegistry) -> list[str]:
    """Ids of the processes of a registry, sorted."""
    return sorted(name for _, name in registry)


def _loader(collection: SceneCollection, loaded: Callable[[xr.DataArray], None]) -> Callable[..., xr.DataArray]:
    def load(**arguments: Any) -> xr.DataArray:
        cube = load_collection(collection, json.loads(arguments[OPAQUE]))
        loaded(cube)
        return cube

    return load


def save_result(data: xr.DataArray, format: str, options: dict[str, Any] | None = None) -> SaveRequest:  # noqa: A002 - openEO's signature
    """Note what to write; the files are written when the graph has been executed."""
    cube = data.cube if isinstance(data, SaveRequest) else data
    return SaveRequest(cube, format, options or {})


def ndvi(data: xr.DataArray, nir: str = "nir", red: str = "red", target_band: str | None = None) -> xr.DataArray:
    """NDVI; with a target band the input's bands are kept and it is added to them."""
    index: xr.DataArray = ndvi_without_bands(data, nir=nir, red=red)
    if target_band is None:
        return index
    plain = index.reset_coords([name for name in ("bands", "common_name") if name in index.coords], drop=True)
    added = plain.expand_dims(bands=[target_band]).assign_coords(common_name=("bands", [target_band]))
    return xr.concat(
        [data, added.transpose(*data.dims)], dim="bands", coords="minimal", compat="override", join="override"
    )


def merge_cubes(
    cube1: xr.DataArray, cube2: xr.DataArray, overlap_resolver: Callable[..., Any] | None = None, context: Any = None
) -> xr.DataArray:
    """Merge two cubes without the coordinate of the bands' common names, which the package's merge trips over."""
    plain = [cube.drop_vars("common_name", errors="ignore") for cube in (cube1, cube2)]
    merged: xr.DataArray = merge_plain_cubes(*plain, overlap_resolver=overlap_resolver, context=context)
    if "bands" not in merged.dims:
        return merged
    names = [BANDS.get(str(band), (None,))[0] or str(band) for band in merged["bands"].values]
    return merged.assign_coords(common_name=("bands", names))
