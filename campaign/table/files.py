"""The table's files: the ones users have, read as they are, and exports that openEO's job databases open."""

from __future__ import annotations

import json
import math
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely

from campaign.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT_COLUMNS = ("id", "backend_name", "status", "start_time", "running_start_time", "tile_id", "tile")
"""Read as text from a CSV: the first five as openEO's CsvJobDatabase does."""


def read_table(source: Any) -> pd.DataFrame:
    """The user's table.

    Args:
        source: a DataFrame or GeoDataFrame; a function that returns one; or the path of a `.csv` (geometry as WKT in
            the column `geometry`), `.parquet`, `.geoparquet`, `.geojson` or `.gpkg` file. As in openEO's job databases,
            the job manager's columns of a CSV are read as text; so are `tile_id` and `tile`.

    Returns:
        A GeoDataFrame where there are geometries. WKT has no CRS: it is taken for EPSG:4326 if all of it fits into
        longitude and latitude, else left without. GeoJSON properties come as they are (dates stay text, lists and
        objects stay lists and dicts); if every feature has an id that is text, the ids become the index.

    Raises:
        InvalidInput: missing, unreadable, of an unknown kind or empty.
    """
    table, name = source, "the table"
    if isinstance(source, str | os.PathLike):
        table, name = _read_file(Path(source)), str(source)
    elif callable(source):
        name = f"what {getattr(source, '__qualname__', source)}() returns"
        table = source()
    if not isinstance(table, pd.DataFrame):
        raise InvalidInput(f"{name} is of type {type(table).__name__}: give a DataFrame or a file")
    if len(table) == 0:
        raise InvalidInput(f"{name} is empty: there is nothing to run")
    return table


def export_table(df: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write the table to `.csv`, `.parquet`/`.geoparquet` (both open in openEO's job databases) or `.geojson`.

    A reader sees the old file or the new one, never half of it. The index is not written, as in openEO's job databases.
    What Parquet would refuse or change (mixed types, dicts with different keys) is written as JSON text; GeoJSON is in
    longitude and latitude.

    Raises:
        InvalidInput: an unknown suffix, no geometry for GeoJSON, or a folder that cannot be written.
    """
    target = Path(path)
    write = _WRITERS.get(target.suffix.lower())
    if write is None:
        raise InvalidInput(f"cannot write {target}: its name must end in {', '.join(_WRITERS)}")
    if write is _write_geojson and not isinstance(df, gpd.GeoDataFrame):
        raise InvalidInput(f"cannot write {target}: the table has no geometries; use .csv or .parquet")
    write_file(target, lambda file: write(df, file))


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have `write` fill a new file that then takes the place of `path`, all at once; folders are made.

    Raises:
        InvalidInput: the folder cannot be made or written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_file(path: Path) -> pd.DataFrame:
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InvalidInput(f"cannot read {path}: its name must end in {', '.join(_READERS)}")
    if not path.is_file():
        raise InvalidInput(f"no such file: {path}")
    try:
        return read(path)
    except pd.errors.EmptyDataError as error:
        raise InvalidInput(f"{path} is empty: there is nothing to run") from error
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, pyogrio.errors.DataSourceError) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from error


def _read_csv(path: Path) -> pd.DataFrame:
    # As CsvJobDatabase reads it, so that the user's start_job sees the values that it was written for.
    df = pd.read_csv(path, dtype={**dict.fromkeys(_TEXT_COLUMNS, "str"), "costs": "float64"})
    if "geometry" not in df.columns or df["geometry"].isna().all():
        return df
    given = df["geometry"].notna().to_numpy()
    texts = np.array([text if there else None for text, there in zip(df["geometry"], given, strict=True)], dtype=object)
    try:
        geometries = shapely.from_wkt(texts, on_invalid="ignore")
    except TypeError:  # numbers: a column of the user's own
        return df
    bad = (shapely.is_missing(geometries) & given).nonzero()[0]
    if len(bad) == given.sum():
        return df  # not WKT: a column of the user's own
    if len(bad):
        raise InvalidInput(f"cannot read {path}: the geometry in row {bad[0]} is no WKT: {str(texts[bad[0]])[:80]!r}")
    return _geo(df.assign(geometry=geometries), "EPSG:4326" if _lonlat(geometries) else None)


def _lonlat(geometries: Any) -> bool:
    minx, miny, maxx, maxy = shapely.total_bounds(geometries)
    return bool(minx >= -180 and miny >= -90 and maxx <= 180 and maxy <= 90)  # noqa: PLR2004 degrees


def _geo(df: pd.DataFrame, crs: Any) -> pd.DataFrame:
    geo: pd.DataFrame = gpd.GeoDataFrame(df, geometry="geometry", crs=crs)
    return geo


def _read_parquet(path: Path) -> pd.DataFrame:
    geo = b"geo" in (pq.read_metadata(path).metadata or {})
    df: pd.DataFrame = gpd.read_parquet(path) if geo else pd.read_parquet(path)
    return df


def _read_geojson(path: Path) -> pd.DataFrame:
    """Not through GDAL, which makes dates of text and text of objects."""
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise InvalidInput(f"cannot read {path}: not a GeoJSON FeatureCollection")
    crs = document.get("crs") or {}
    name = str(crs.get("properties", {}).get("name", "CRS84"))
    df = pd.DataFrame([feature.get("properties") or {} for feature in features], index=_feature_ids(features))
    texts = [None if feature.get("geometry") is None else json.dumps(feature["geometry"]) for feature in features]
    geometries = shapely.from_geojson(np.array(texts, dtype=object))
    return _geo(df.assign(geometry=geometries), "EPSG:4326" if name.endswith("CRS84") else name)


def _feature_ids(features: list[dict[str, Any]]) -> pd.Index[Any]:
    ids = [feature.get("id") for feature in features]
    texts = ids and all(isinstance(name, str) for name in ids) and len(set(ids)) == len(ids)
    return pd.Index(ids) if texts else pd.RangeIndex(len(ids))


def _read_geopackage(path: Path) -> pd.DataFrame:
    layers = [str(name) for name, _ in pyogrio.list_layers(path)]
    if len(layers) > 1:
        raise InvalidInput(f"cannot read {path}: it has {len(layers)} layers ({', '.join(layers)}), and one is needed")
    df: pd.DataFrame = gpd.read_file(path)
    return df


def _write_csv(df: pd.DataFrame, file: BinaryIO) -> None:
    df.to_csv(file, index=False)


def _write_parquet(df: pd.DataFrame, file: BinaryIO) -> None:
    named = df.rename(columns=str)
    objects = {str(name): column for name, column in named.items() if column.dtype == "O"}
    changed = {name: column.map(_json_text) for name, column in objects.items() if not _keeps(column)}
    named.assign(**changed).to_parquet(file, index=False)


def _keeps(column: pd.Series[Any]) -> bool:
    """Whether Parquet gives a column of objects back as it is, None and NaN aside."""
    values = column.tolist()
    if all(value is None or isinstance(value, str | float) for value in values):
        return len({type(value) for value in column.dropna().tolist()}) <= 1
    try:
        kept = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError):
        return False
    if pa.types.is_struct(kept.type) and kept.type.num_fields == 0:
        return False
    return not pa.types.is_nested(kept.type) or kept.to_pylist() == [_plain(value) for value in values]


def _json_text(value: Any) -> str | None:
    plain = _plain(value)
    return None if plain is None else json.dumps(plain)


def _write_geojson(df: Any, file: BinaryIO) -> None:
    lonlat = df.geometry if df.crs is None else df.geometry.to_crs("EPSG:4326")
    geometries = shapely.to_geojson(lonlat.array)
    properties = df.drop(columns=df.active_geometry_name)
    names = [str(name) for name in properties.columns]
    features = [
        {
            "type": "Feature",
            "properties": {name: _plain(value) for name, value in zip(names, row, strict=True)},
            "geometry": None if geometry is None else json.loads(geometry),
        }
        for geometry, row in zip(geometries, properties.itertuples(index=False, name=None), strict=True)
    ]
    file.write(json.dumps({"type": "FeatureCollection", "features": features}).encode())


def _plain(value: Any) -> Any:
    """As JSON has it: NaN is null, times are ISO text, what JSON has no form for is text."""
    if isinstance(value, np.ndarray | list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".geoparquet": _read_parquet,
    ".geojson": _read_geojson,
    ".gpkg": _read_geopackage,
}

_WRITERS: dict[str, Callable[[pd.DataFrame, BinaryIO], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".geoparquet": _write_parquet,
    ".geojson": _write_geojson,
}
