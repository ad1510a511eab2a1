"""Small results as tables: CSV and JSON, of cubes without x and y (time series of geometries)."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from sandbox.errors import OpenEOError

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

_MAX_VALUES = 1_000_000


def save_json(cube: xr.DataArray, folder: Path) -> list[tuple[Path, xr.DataArray]]:
    """`timeseries.json`: date -> geometry -> bands, as back-ends give time series; anything else as nested lists."""
    path = folder / ("timeseries.json" if "t" in cube.dims else "openEO.json")
    _check(cube)
    ordered = cube.transpose(*[dim for dim in ("t", "geometry", "bands") if dim in cube.dims], ...)
    if "t" in ordered.dims:
        content: Any = {_label(time): _plain(ordered.sel(t=time).values) for time in ordered["t"].values}
    else:
        content = _plain(ordered.values)
    path.write_text(json.dumps(content))
    return [(path, cube)]


def save_csv(cube: xr.DataArray, folder: Path) -> list[tuple[Path, xr.DataArray]]:
    """`timeseries.csv`: one line per date and geometry, one column per band."""
    path = folder / ("timeseries.csv" if "t" in cube.dims else "openEO.csv")
    _check(cube)
    bands = [str(band) for band in cube["bands"].values] if "bands" in cube.dims else ["value"]
    full = cube if "bands" in cube.dims else cube.expand_dims("bands")
    rows: list[str] = [dim for dim in ("t", "geometry") if dim in full.dims]
    rows += [str(dim) for dim in full.dims if dim not in {*rows, "bands"}]
    ordered = full.transpose(*rows, "bands")
    names = {"t": "date", "geometry": "feature_index"}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(names.get(dim, dim) for dim in rows), *bands])
        for index in np.ndindex(*ordered.shape[:-1]):
            labels = [
                _label(ordered[dim].values[i]) if dim in ordered.coords else i
                for dim, i in zip(rows, index, strict=True)
            ]
            writer.writerow([*labels, *("" if np.isnan(value) else float(value) for value in ordered.values[index])])
    return [(path, cube)]


def _check(cube: xr.DataArray) -> None:
    if cube.size > _MAX_VALUES:
        raise OpenEOError("FormatUnsupported", f"A cube of {cube.size} values is too large for JSON or CSV.")


def _label(value: Any) -> str:
    return f"{str(value)[:19]}Z" if isinstance(value, np.datetime64) else str(value)


def _plain(values: Any) -> Any:
    """Nested lists with None for NaN."""
    if isinstance(values, np.ndarray) and values.ndim:
        return [_plain(value) for value in values]
    number = float(values)
    return None if np.isnan(number) else number
