"""The table with what became of its tiles, in the columns and words of openEO's job manager and in ours."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd

from campaign.errors import InvalidInput
from campaign.tile import Step, Tile, TileStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_S = TileStatus

STATUS_TO_MANAGER: Mapping[TileStatus, str] = MappingProxyType(
    {
        _S.NOT_STARTED: "not_started",
        _S.SUBMITTING: "not_started",  # no job is known yet
        _S.CREATED: "created",
        _S.QUEUED: "queued",
        _S.RUNNING: "running",
        _S.FINISHED: "finished",
        _S.POSTPROCESSED: "finished",
        _S.PUBLISHED: "finished",
        _S.FAILED: "error",  # but see `_manager_status`
        _S.CANCELED: "canceled",
        _S.SKIPPED: "skipped",
    }
)
"""What `MultiBackendJobManager` calls each of our statuses."""

_RAN = frozenset({_S.RUNNING, _S.FINISHED, _S.POSTPROCESSED, _S.PUBLISHED, _S.FAILED})
_USAGE = re.compile(r"-?[\d.]+(e[+-]?\d+)?( \S.*)?")
"""What the job manager writes into a usage column: `1234.5 cpu-seconds`."""


def with_status(df: pd.DataFrame, tiles: Iterable[Tile]) -> pd.DataFrame:
    """The table as a job database of `MultiBackendJobManager` that knows more.

    `status` is the job manager's (`STATUS_TO_MANAGER`; a failed tile is `start_failed` where no job came to be and
    `finished` where the job was good and a later step failed), so that its users' maps and scripts keep working; ours is
    `fleet_status`. The job manager's as well: `id`, `backend_name`, `start_time` (when the attempt was claimed),
    `running_start_time` (the best known: when it was seen running, later when it was started), `costs` and one column
    per usage metric. Ours: `tile_id`, `attempt`, `failed_step`, `error_class`, `error`, `items`, `finished_time`,
    `published_time`. Times are RFC 3339 strings.

    A column of the user's that has one of our names, or a usage metric's, stays and ours gets `fleet_` before its name.
    Rows without a tile keep what they have.

    Args:
        df: the table that the campaign was made from.
        tiles: in any order; `Tile.order` says which row is theirs.

    Raises:
        InvalidInput: a tile has no row: this is not the campaign's table.
    """
    known = list(tiles)
    lost = [tile.id for tile in known if not 0 <= tile.order < len(df)]
    if lost:
        raise InvalidInput(f"{len(lost)} tiles have no row in this table of {len(df)} rows (first: {lost[0]!r})")
    rows = [tile.order for tile in known]
    filled = df.copy()
    for column, values in _manager_columns(known).items():
        filled[column] = _merged(df, column, rows, values)
    for column, values in _our_columns(known).items():
        name = _free_name(df, column, known)
        filled[name] = _merged(df, name, rows, values)
    for metric, values in _usage_columns(known).items():
        if metric not in _MANAGER_DEFAULTS:  # the job manager leaves these out, too
            name = metric if _is_usage(df, metric) else f"fleet_{metric}"
            filled[name] = _merged(df, name, rows, values)
    return filled


def _manager_columns(tiles: Sequence[Tile]) -> dict[str, list[Any]]:
    return {
        "id": [tile.job_id or None for tile in tiles],
        "backend_name": [tile.backend or None for tile in tiles],
        "status": [_manager_status(tile) for tile in tiles],
        "start_time": [_rfc3339(tile.submitted_at) for tile in tiles],
        "running_start_time": [_rfc3339(_running_since(tile)) for tile in tiles],
        "costs": [float("nan") if tile.costs is None else tile.costs for tile in tiles],
    }


_MANAGER_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "id": None,
        "backend_name": None,
        "status": "not_started",
        "start_time": None,
        "running_start_time": None,
        "costs": float("nan"),
    }
)
"""The columns of a job database, and what is in them before anything happened."""


def _our_columns(tiles: Sequence[Tile]) -> dict[str, list[Any]]:
    return {
        "tile_id": [tile.id for tile in tiles],
        "fleet_status": [tile.status.value for tile in tiles],
        "attempt": [tile.attempt for tile in tiles],
        "failed_step": [tile.failed_step or None for tile in tiles],
        "error_class": [tile.error_class or None for tile in tiles],
        "error": [tile.error or None for tile in tiles],
        "items": [tile.items or None for tile in tiles],
        "finished_time": [_rfc3339(tile.finished_at) for tile in tiles],
        "published_time": [_rfc3339(tile.published_at) for tile in tiles],
    }


def _usage_columns(tiles: Sequence[Tile]) -> dict[str, list[Any]]:
    usages = [_usage(tile) for tile in tiles]
    return {
        metric: [usage.get(metric) for usage in usages]
        for metric in sorted({name for usage in usages for name in usage})
    }


def _usage(tile: Tile) -> dict[str, str]:
    """Each metric as the job manager writes it."""
    try:
        metrics = json.loads(tile.usage or "{}")
    except ValueError:
        return {}
    return {
        name: f"{metric.get('value', 0)} {metric.get('unit', '')}".strip()
        for name, metric in (metrics.items() if isinstance(metrics, dict) else ())
        if isinstance(metric, dict)
    }


def _manager_status(tile: Tile) -> str:
    if tile.status is _S.FAILED and tile.failed_step in {Step.POSTPROCESS, Step.PUBLISH}:
        return "finished"
    if tile.status is _S.FAILED and not tile.job_id:
        return "start_failed"
    return STATUS_TO_MANAGER[tile.status]


def _running_since(tile: Tile) -> float:
    if tile.status is _S.RUNNING:
        return tile.since
    return tile.started_at if tile.status in _RAN else 0.0


def _rfc3339(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None


def _free_name(df: pd.DataFrame, column: str, tiles: Sequence[Tile]) -> str:
    """Our column's name, or with `fleet_` before it where the user has a column of that name."""
    if column not in df.columns or (column == "tile_id" and _same_ids(df, tiles)):
        return column
    exported_before = "fleet_status" in df.columns and f"fleet_{column}" not in df.columns
    return column if exported_before else f"fleet_{column}"


def _same_ids(df: pd.DataFrame, tiles: Sequence[Tile]) -> bool:
    ids = df["tile_id"].tolist()
    return all(str(ids[tile.order]) == tile.id for tile in tiles)


def _is_usage(df: pd.DataFrame, metric: str) -> bool:
    """Whether the column is free for usage, or holds usage already."""
    if metric not in df.columns:
        return True
    return all(isinstance(value, str) and _USAGE.fullmatch(value) for value in df[metric].dropna().tolist())


def _merged(df: pd.DataFrame, name: str, rows: Sequence[int], values: Sequence[Any]) -> pd.Series[Any]:
    """The column as it was, with `values` in `rows`."""
    if name in df.columns:
        merged = [value if there else None for value, there in zip(df[name], df[name].notna(), strict=True)]
    else:
        merged = [_MANAGER_DEFAULTS.get(name)] * len(df)
    for row, value in zip(rows, values, strict=True):
        merged[row] = value
    if name == "costs":
        return pd.Series(pd.to_numeric(pd.Series(merged, dtype=object)).astype(float).to_numpy(), index=df.index)
    whole = name.endswith("attempt") and all(isinstance(value, int) for value in merged)
    return pd.Series(merged, index=df.index, dtype=int if whole else object)
