"""Any value that a table's cell may hold, as JSON text and back with its type: what JSON lacks is a tagged object."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import shapely

if TYPE_CHECKING:
    from collections.abc import Callable

_TAG = "$type"
_AS_THEY_ARE = (str, int, float, bool, type(None))


def dumps(value: object) -> str:
    """The value as JSON text; NaN and the infinities as Python's `json` writes them.

    Raises:
        TypeError: a type without a faithful form here; the message names it.
        RecursionError: a value that contains itself.
    """
    return json.dumps(_plain(value), separators=(",", ":"))


def loads(text: str) -> Any:
    """The value that `dumps` was given, of the same type."""
    return _revived(json.loads(text))


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is list:
        return [_plain(item) for item in value]
    if kind is dict:
        return _plain_dict(value)
    if kind in (tuple, set, frozenset):
        items = [_plain(item) for item in value]
        return _tagged(kind.__name__, items if kind is tuple else sorted(items, key=json.dumps))
    if kind in _AS_TEXT:
        return _tagged(kind.__name__, _AS_TEXT[kind][0](value))
    return _tagged("datetime", _instant(value)) if kind is datetime else _science(value)


def _plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    if all(type(key) is str for key in value) and _TAG not in value:
        return {key: _plain(item) for key, item in value.items()}
    return _tagged("dict", [[_plain(key), _plain(item)] for key, item in value.items()])


def _instant(value: datetime) -> list[Any]:
    zone = value.tzinfo
    if isinstance(zone, ZoneInfo) and zone.key:
        return [value.replace(tzinfo=None).isoformat(), zone.key, value.fold]
    if zone is not None and not type(zone).__module__.startswith("datetime"):
        raise TypeError(f"datetime in a time zone of type {type(zone).__module__}.{type(zone).__qualname__}")
    return [value.isoformat(), None, value.fold]


def _science(value: Any) -> dict[str, Any]:
    """Values of numpy, pandas and shapely."""
    if value is pd.NA or value is pd.NaT:
        return _tagged("missing", "NA" if value is pd.NA else "NaT")
    if type(value) is pd.Timestamp:
        return _tagged(
            "Timestamp", [value.as_unit("ns").value, value.unit, None if value.tz is None else str(value.tz)]
        )
    if type(value) is pd.Timedelta:
        return _tagged("Timedelta", [value.as_unit("ns").value, value.unit])
    if isinstance(value, np.generic) and value.dtype.kind in "biufmMUS":
        return _tagged("numpy", [value.dtype.str, b64encode(value.tobytes()).decode()])
    if type(value) is np.ndarray and value.dtype.kind in "biufmMUSO":
        return _array(value)
    if isinstance(value, shapely.Geometry):
        return _tagged("geometry", shapely.to_wkb(value, hex=True, flavor="iso"))
    raise TypeError(f"a value of type {type(value).__module__}.{type(value).__qualname__}")


def _array(value: Any) -> dict[str, Any]:
    if value.dtype.kind == "O":
        return _tagged("objects", [list(value.shape), [_plain(item) for item in value.ravel().tolist()]])
    return _tagged("ndarray", [value.dtype.str, list(value.shape), b64encode(value.tobytes()).decode()])


def _tagged(name: str, content: Any) -> dict[str, Any]:
    return {_TAG: name, "value": content}


def _revived(plain: Any) -> Any:
    if type(plain) is list:
        return [_revived(item) for item in plain]
    if type(plain) is not dict:
        return plain
    if _TAG not in plain:
        return {key: _revived(item) for key, item in plain.items()}
    return _REVIVE[plain[_TAG]](plain["value"])


def _revive_datetime(content: list[Any]) -> datetime:
    text, zone, fold = content
    value = datetime.fromisoformat(text).replace(fold=fold)
    return value if zone is None else value.replace(tzinfo=ZoneInfo(zone))


def _revive_missing(name: str) -> Any:
    return pd.NA if name == "NA" else pd.NaT


def _revive_timestamp(content: list[Any]) -> Any:
    nanoseconds, unit, zone = content
    value = pd.Timestamp(nanoseconds, unit="ns").as_unit(unit)
    return value if zone is None else value.tz_localize("UTC").tz_convert(zone)


def _revive_timedelta(content: list[Any]) -> Any:
    return pd.Timedelta(content[0], unit="ns").as_unit(content[1])


def _revive_numpy(content: list[Any]) -> Any:
    return np.frombuffer(b64decode(content[1]), dtype=content[0])[0]


def _revive_ndarray(content: list[Any]) -> Any:
    return np.frombuffer(b64decode(content[2]), dtype=content[0]).reshape(content[1]).copy()


def _revive_objects(content: list[Any]) -> Any:
    array = np.empty(len(content[1]), dtype=object)
    for i, item in enumerate(content[1]):
        array[i] = _revived(item)
    return array.reshape(content[0])


def _revive_geometry(content: str) -> Any:
    return shapely.from_wkb(content)


_AS_TEXT: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    bytes: (lambda value: b64encode(value).decode(), b64decode),
    date: (date.isoformat, date.fromisoformat),
    time: (time.isoformat, time.fromisoformat),
    timedelta: (
        lambda value: f"{value.days},{value.seconds},{value.microseconds}",
        lambda text: timedelta(*map(int, text.split(","))),
    ),
    Decimal: (str, Decimal),
    UUID: (str, UUID),
    complex: (repr, complex),
}

_REVIVE: dict[str, Callable[[Any], Any]] = {
    **{kind.__name__: revive for kind, (_, revive) in _AS_TEXT.items()},
    "dict": lambda pairs: {_revived(key): _revived(item) for key, item in pairs},
    "tuple": lambda items: tuple(_revived(item) for item in items),
    "set": lambda items: {_revived(item) for item in items},
    "frozenset": lambda items: frozenset(_revived(item) for item in items),
    "datetime": _revive_datetime,
    "missing": _revive_missing,
    "Timestamp": _revive_timestamp,
    "Timedelta": _revive_timedelta,
    "numpy": _revive_numpy,
    "ndarray": _revive_ndarray,
    "objects": _revive_objects,
    "geometry": _revive_geometry,
}
