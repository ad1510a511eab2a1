"""STAC's names, ids and JSON: what items and catalogs have in common; nothing heavy is imported here."""

from __future__ import annotations

import hashlib
import math
import re
from datetime import UTC, date, datetime
from typing import Any

STAC_VERSION = "1.1.0"
EXTENSIONS = "https://stac-extensions.github.io"
FILE = f"{EXTENSIONS}/file/v2.1.0/schema.json"
GRID = f"{EXTENSIONS}/grid/v1.1.0/schema.json"
PROCESSING = f"{EXTENSIONS}/processing/v1.2.0/schema.json"
PROJECTION = f"{EXTENSIONS}/projection/v2.0.0/schema.json"
RASTER = f"{EXTENSIONS}/raster/v2.0.0/schema.json"

ID_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
"""Ids that every STAC API, file system and URL takes as they are."""
RESERVED_IDS = frozenset({"catalog", "collection"})
"""File names that a static catalog has for itself."""


def is_item_id(text: str) -> bool:
    """Whether `text` can be an item id as it is."""
    return ID_PATTERN.fullmatch(text) is not None and text not in RESERVED_IDS


def item_id(text: str) -> str:
    """`text` if it is safe as an item id, else its safe characters and a hash of all of it: no two texts collide."""
    if is_item_id(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:150] or "item"
    return f"{stem}-{digest}"


def jsonable(value: Any) -> Any:
    """`value` in JSON's types: NaN and the infinities become None, numpy's scalars and times Python's and text."""
    if getattr(getattr(value, "dtype", None), "kind", "") == "M":
        value = value.astype("datetime64[us]")  # numpy gives nanoseconds as a bare number
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(one) for one in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return None if value != value else rfc3339(value)  # noqa: PLR0124 - pandas's NaT is a datetime unequal to itself
    return value.isoformat() if isinstance(value, date) else str(value)


def aware(time: str | datetime) -> datetime:
    """A time, or the text of one in ISO 8601, with its zone; a naive one is UTC.

    Raises:
        ValueError: the text is none.
    """
    time = datetime.fromisoformat(time) if isinstance(time, str) else time
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def rfc3339(time: datetime) -> str:
    """`time` in UTC as STAC writes it; a naive one is UTC."""
    return aware(time).astimezone(UTC).isoformat().replace("+00:00", "Z")
