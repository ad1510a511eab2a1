"""One column of the user's table to Arrow and back, with its values and types."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from campaign.errors import InvalidInput
from campaign.table import json_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_LINEAR_RING = 2
"""shapely's type id."""


@dataclass(frozen=True)
class Column:
    """A column as Arrow keeps it."""

    kind: str
    """How it was put into Arrow: the key to get it back with."""
    detail: Any
    """What else is needed to get it back, as JSON."""
    array: pa.Array


def to_arrow(column: pd.Series[Any], where: str) -> Column:
    """The column in a form that Parquet keeps faithfully.

    Args:
        column: of any of pandas' and geopandas' types.
        where: what to call it in a message.

    Raises:
        InvalidInput: a type or a value that cannot be kept, with its row.
    """
    dtype: Any = column.dtype
    for fits, kind, encode in _KINDS:
        if fits(dtype):
            detail, array = encode(column, where)
            return Column(kind, detail, array)
    raise InvalidInput(f"{where} has the type {dtype}, which cannot be kept: convert it, e.g. with astype(str)")


def from_arrow(kind: str, detail: Any, array: pa.Array) -> Any:
    """The values that `to_arrow` was given: a numpy or pandas array."""
    return _FROM_ARROW[kind](array, detail)


def check_column(column: pd.Series[Any]) -> list[str]:
    """What keeps a column from being stored, as one line; empty if nothing does."""
    try:
        to_arrow(column, f"column {column.name!r}")
    except InvalidInput as error:
        return [str(error)]
    return []


def canonical(column: Column) -> Iterator[bytes]:
    """The column's type and content in bytes that depend on nothing else."""
    array = column.array
    yield json.dumps([column.kind, column.detail]).encode()
    yield np.packbits(pc.is_null(array).to_numpy(zero_copy_only=False)).tobytes()
    if pa.types.is_primitive(array.type):
        values = pc.fill_null(array, False if pa.types.is_boolean(array.type) else 0).to_numpy(zero_copy_only=False)
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), values.dtype.type("nan"), values)  # NaNs have many bit patterns
        yield values.astype(values.dtype.newbyteorder("<")).tobytes()
        return
    pieces = [value.encode() if isinstance(value, str) else value or b"" for value in array.to_pylist()]
    yield np.array([len(piece) for piece in pieces], dtype="<i8").tobytes()
    yield b"".join(pieces)


def _numbers_to_arrow(column: pd.Series[Any], _: str) -> tuple[str, pa.Array]:
    values = np.ascontiguousarray(column.to_numpy())
    dtype: Any = values.dtype.newbyteorder("=")
    values = values.astype(dtype, copy=False)
    if dtype.kind in "mM" or (dtype.itemsize == 2 and dtype.kind == "f"):  # noqa: PLR2004 Parquet has no seconds
        return dtype.str, pa.array(values.view(f"i{dtype.itemsize}"))
    return dtype.str, pa.array(values, from_pandas=False)


def _zoned_to_arrow(column: Any, _: str) -> tuple[list[str], pa.Array]:
    return [column.dtype.unit, str(column.dtype.tz)], pa.array(column.array.asi8)


def _category_to_arrow(column: Any, _: str) -> tuple[list[Any], pa.Array]:
    known = column.dtype.categories
    return [json_values.dumps(known.tolist()), str(known.dtype), bool(column.dtype.ordered)], pa.array(
        column.array.codes
    )


def _string_to_arrow(column: Any, _: str) -> tuple[list[Any], pa.Array]:
    return [column.dtype.storage, column.dtype.na_value is pd.NA], pa.array(
        column.tolist(), pa.large_string(), from_pandas=True
    )


def _masked_to_arrow(column: pd.Series[Any], _: str) -> tuple[str, pa.Array]:
    return column.dtype.name, pa.array(column.array)


def _geometry_to_arrow(column: Any, where: str) -> tuple[str | None, pa.Array]:
    geometries = column.to_numpy()
    rings = shapely.get_type_id(geometries) == _LINEAR_RING
    if rings.any():  # WKB has no rings: they would come back as lines
        raise InvalidInput(f"{where}, row {int(rings.argmax())}: a LinearRing cannot be kept; make it a Polygon")
    wkb = shapely.to_wkb(geometries, flavor="iso")
    return None if column.crs is None else column.crs.srs, pa.array(wkb, pa.binary())


def _objects_to_arrow(column: pd.Series[Any], where: str) -> tuple[str, pa.Array]:
    values = column.tolist()
    if all(type(value) is str for value in values):
        try:
            return "text", pa.array(values, pa.large_string())
        except UnicodeEncodeError:  # half a surrogate pair: JSON can say it
            pass
    texts = []
    for row, value in enumerate(values):
        try:
            texts.append(json_values.dumps(value))
        except (TypeError, ValueError, RecursionError) as error:
            reason = "a value that contains itself" if isinstance(error, RecursionError) else str(error)
            raise InvalidInput(
                f"{where}, row {row}: {reason} cannot be kept; use text, numbers, lists or dicts"
            ) from None
    return "json", pa.array(texts, pa.large_string())


def _numbers(array: pa.Array, dtype: str) -> NDArray[Any]:
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values.view(dtype).copy()


def _zoned(array: pa.Array, detail: list[str]) -> Any:
    unit, zone = detail
    return pd.DatetimeIndex(_numbers(array, f"M8[{unit}]")).tz_localize("UTC").tz_convert(zone)


def _category(array: pa.Array, detail: list[Any]) -> Any:
    categories = pd.Index(json_values.loads(detail[0]), dtype=detail[1])
    return pd.Categorical.from_codes(array.to_numpy(), categories=categories, ordered=detail[2])


def _string(array: pa.Array, detail: list[Any]) -> Any:
    storage, masked = detail
    dtype: Any = pd.StringDtype(storage) if masked else pd.StringDtype(storage, na_value=np.nan)
    return pd.array(array.to_pylist(), dtype=dtype)


def _masked(array: pa.Array, dtype: str) -> Any:
    extension: Any = pd.api.types.pandas_dtype(dtype)
    return extension.__from_arrow__(array)


def _objects(array: pa.Array, form: str) -> NDArray[np.object_]:
    values = array.to_pylist()
    return _apart(values if form == "text" else [json_values.loads(text) for text in values])


def _apart(values: list[Any]) -> NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):  # one by one: numpy would make lists of one length an axis
        array[i] = value
    return array


def _geometry(array: pa.Array, crs: str | None) -> Any:
    return gpd.array.GeometryArray(shapely.from_wkb(_apart(array.to_pylist())), crs=crs)


def _is_masked(dtype: Any) -> bool:
    return isinstance(dtype, pd.BooleanDtype) or dtype.name in _MASKED


def _is_numbers(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "biufmM" and dtype.name not in _TOO_WIDE


_MASKED = frozenset([*(f"{u}Int{bits}" for u in ("", "U") for bits in (8, 16, 32, 64)), "Float32", "Float64"])
"""Pandas' types of numbers that know missing values."""
_TOO_WIDE = frozenset({"longdouble", "float128", "float96"})
"""Not in Arrow."""

_KINDS: tuple[tuple[Callable[[Any], bool], str, Callable[[Any, str], tuple[Any, pa.Array]]], ...] = (
    (lambda dtype: dtype.name == "geometry", "geometry", _geometry_to_arrow),
    (_is_numbers, "numbers", _numbers_to_arrow),
    (lambda dtype: isinstance(dtype, np.dtype) and dtype.kind == "O", "objects", _objects_to_arrow),
    (lambda dtype: isinstance(dtype, pd.DatetimeTZDtype), "zoned", _zoned_to_arrow),
    (lambda dtype: isinstance(dtype, pd.CategoricalDtype), "category", _category_to_arrow),
    (lambda dtype: isinstance(dtype, pd.StringDtype), "string", _string_to_arrow),
    (_is_masked, "masked", _masked_to_arrow),
)

_FROM_ARROW: dict[str, Callable[[pa.Array, Any], Any]] = {
    "geometry": _geometry,
    "numbers": _numbers,
    "objects": _objects,
    "zoned": _zoned,
    "category": _category,
    "string": _string,
    "masked": _masked,
}
