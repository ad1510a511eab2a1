"""The table in pieces that Redis can keep: to Parquet and back with its values and types; no pickle.

A piece is a Parquet file of its own. Its schema metadata, under `openeo-fleet`, says how each column was put
into Arrow; tables with geometries are GeoParquet too, so that a piece can be looked at with other tools.
"""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj

from campaign.errors import InvalidInput
from campaign.table import columns, json_values

_KEY = b"openeo-fleet"
_VERSION = 1


def encode(df: pd.DataFrame, chunk_rows: int = 1000) -> list[bytes]:
    """The table in chunks of `chunk_rows` rows, in order; at least one chunk.

    `decode` gives each one back with the same values, types, index, CRS and geometry columns: strings, numbers, NaN and
    None apart, times with their zone, lists, dicts, arrays and mixtures of them.

    Raises:
        InvalidInput: something cannot be kept faithfully; every such column and the first row in it are named.
    """
    if chunk_rows < 1:
        raise InvalidInput(f"chunk_rows must be at least 1: {chunk_rows}")
    encoded, heading = _encoded(df)
    return [
        _chunk(encoded, {**heading, "index": _index_heading(df.index[start : start + chunk_rows])}, start, chunk_rows)
        for start in range(0, max(len(df), 1), chunk_rows)
    ]


def decode(chunk: bytes) -> pd.DataFrame:
    """The rows of one chunk as they were in the table: a GeoDataFrame if it was one.

    Raises:
        InvalidInput: damaged, or written by another version.
    """
    try:
        table = pq.read_table(io.BytesIO(chunk), use_threads=False)
        heading = json.loads(table.schema.metadata[_KEY])
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise InvalidInput(f"a chunk of the table cannot be read back ({error}): load the table again") from error
    if heading["version"] != _VERSION:
        raise InvalidInput(
            f"the table was stored in format {heading['version']}, and this is {_VERSION}: load it again"
        )
    values = [
        columns.from_arrow(kind, detail, column.combine_chunks())
        for column, (kind, detail) in zip(table.columns, heading["columns"], strict=True)
    ]
    levels, values = values[: heading["levels"]], values[heading["levels"] :]
    index = _index(levels, heading["index"])
    series = {
        i: pd.Series(column, index=index, dtype=column.dtype) for i, column in enumerate(values)
    }  # nothing inferred
    df = pd.DataFrame(series, index=index)
    names, kind, name = json_values.loads(heading["names"])
    df.columns = pd.Index(names, dtype=kind, name=name)
    return _as_geo(df, heading) if heading["geo"] else df


def row_at(chunk_df: pd.DataFrame, position: int) -> pd.Series[Any]:
    """Row number `position` (from 0) as the job manager hands it to `start_job`.

    The job manager's tables always have columns of text, so its rows never turn whole numbers into floats: neither do
    these, whatever the other columns are. `.name` is the row's index.
    """
    # Without a column of objects pandas would give the row one common type for all values.
    row: pd.Series[Any] = chunk_df.iloc[position : position + 1].assign(**{"\0": None}).iloc[0]
    return row.drop("\0")


def digest(df: pd.DataFrame) -> str:
    """SHA-256 of the content (values, types, names, index, CRS): the same in every process, whatever the versions.

    Raises:
        InvalidInput: as `encode`.
    """
    encoded, heading = _encoded(df)
    total = hashlib.sha256(json.dumps([heading, _index_heading(df.index)], sort_keys=True).encode())
    for column in encoded.values():
        for piece in columns.canonical(column):
            total.update(len(piece).to_bytes(8, "little"))
            total.update(piece)
    return total.hexdigest()


def _encoded(df: pd.DataFrame) -> tuple[dict[str, columns.Column], dict[str, Any]]:
    """Every column by its name in Parquet, levels of the index first, and what the metadata says of all chunks."""
    names: Any = df.columns.tolist()
    if isinstance(df.columns, pd.MultiIndex) or len({str(name) for name in names}) < len(names):
        raise InvalidInput("column names must be unique and of one level")
    sources = {f"\0index {i}": level.to_series() for i, level in enumerate(_levels(df.index))}
    levels = len(sources)
    encoded: dict[str, columns.Column] = {}
    problems = []
    for name, source in (sources | {str(name): df[name] for name in names}).items():
        try:
            encoded[name] = columns.to_arrow(source, "the index" if name in sources else f"column {name!r}")
        except InvalidInput as error:
            problems.append(str(error))
    if problems:
        raise InvalidInput("; ".join(problems))
    active = df.active_geometry_name if isinstance(df, gpd.GeoDataFrame) else None
    active = active if active in names else None  # it may have been dropped
    return encoded, {
        "version": _VERSION,
        "levels": levels,
        "names": json_values.dumps((names, str(df.columns.dtype), df.columns.name)),
        "columns": [[column.kind, column.detail] for column in encoded.values()],
        "geo": isinstance(df, gpd.GeoDataFrame),
        "geometry": json_values.dumps(active),
    }


def _levels(index: pd.Index[Any]) -> list[pd.Index[Any]]:
    if isinstance(index, pd.RangeIndex):
        return []  # three numbers in the metadata
    return [index.get_level_values(i) for i in range(index.nlevels)]


def _chunk(encoded: dict[str, columns.Column], heading: dict[str, Any], start: int, rows: int) -> bytes:
    metadata = {_KEY: json.dumps(heading).encode()}
    geometries = {name: column.detail for name, column in encoded.items() if column.kind == "geometry"}
    if geometries:
        metadata[b"geo"] = _geoparquet(geometries, str(json_values.loads(heading["geometry"]))).encode()
    table = pa.table({name: column.array.slice(start, rows) for name, column in encoded.items()})
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), file, compression="zstd", write_statistics=False)
    return file.getvalue()


def _geoparquet(crs_by_column: dict[str, str | None], active: str) -> str:
    """GeoParquet 1.0.0 file metadata (https://geoparquet.org/releases/v1.0.0/)."""
    described: dict[str, Any] = {
        name: {"encoding": "WKB", "geometry_types": [], "crs": crs and pyproj.CRS(crs).to_json_dict()}
        for name, crs in crs_by_column.items()
    }
    primary = active if active in described else next(iter(described))
    return json.dumps({"version": "1.0.0", "primary_column": primary, "columns": described})


def _index_heading(index: pd.Index[Any]) -> dict[str, Any]:
    span = [index.start, index.stop, index.step] if isinstance(index, pd.RangeIndex) else None
    return {"range": span, "names": json_values.dumps(list(index.names))}


def _index(levels: list[Any], heading: dict[str, Any]) -> pd.Index[Any]:
    names = json_values.loads(heading["names"])
    if heading["range"] is not None:
        start, stop, step = heading["range"]
        return pd.RangeIndex(start, stop, step, name=names[0])
    if len(levels) > 1:
        return pd.MultiIndex.from_arrays(levels, names=names)
    index: pd.Index[Any] = pd.Index(levels[0], dtype=levels[0].dtype, name=names[0])
    return index


def _as_geo(df: pd.DataFrame, heading: dict[str, Any]) -> pd.DataFrame:
    active = json_values.loads(heading["geometry"])
    geo: pd.DataFrame = gpd.GeoDataFrame(df) if active is None else gpd.GeoDataFrame(df, geometry=active)
    return geo
