"""postprocess: from a finished job to assets in their final place, each with a STAC item beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from campaign.message import Message, tile_message
from campaign.tile import NO_FAILURE, Step, Tile, TileStatus
from workers import backend, recover
from workers.failures import NoResults, classify
from workers.items import JobInfo, build_item, item_id
from workers.limits import LOST_AFTER
from workers.output import TileFolder
from workers.schemas import validate_item

if TYPE_CHECKING:
    import pandas as pd

    from workers.context import Context


def postprocess(context: Context, tile: Tile) -> list[Message]:
    """Download the results of the tile's job, make an item of each file, move both to their final place."""
    held = context.store.claim(tile, context.limits.lease)
    with context.limits.holding(held):
        try:
            changes = _deliver(context, held)
        except Exception as error:  # noqa: BLE001  (one bad tile stops one tile)
            recover.step_failed(context, held, Step.POSTPROCESS, classify(error))
            return []
    done = context.store.transition(held, TileStatus.POSTPROCESSED, due=LOST_AFTER, **NO_FAILURE | changes)
    message = tile_message(done)
    return [message] if message else []


def _deliver(context: Context, tile: Tile) -> dict[str, Any]:
    """Put assets and items in place; returns what the tile should know of its job and its items."""
    connection = context.connection(tile.backend)
    job = dict(connection.job(tile.job_id).describe())
    found = backend.results(connection, tile.job_id)
    if not found.assets:
        raise NoResults(f"job {tile.job_id} finished without any results")
    meta = context.meta(tile.campaign)
    folder = TileFolder(meta, tile)
    row = context.row(meta, tile)
    info = _job_info(context, tile, job)
    interval = found.interval or _row_interval(row) or _job_interval(job)
    ids = []
    for asset in found.assets:
        target = folder.asset(asset.name)
        with folder.writing(target) as part:
            backend.download(connection, asset, part)
            item = build_item(
                part,
                item_id=item_id(f"{tile.id}_{target.stem}"),
                collection=tile.campaign,
                asset_key="data",
                href=target.name,
                interval=interval,
                job=info,
                geometry=_geometry(row),
                properties={"fleet:tile": tile.id, "fleet:backend": tile.backend},
            )
            validate_item(item)
        folder.write_item(item)
        ids.append(item["id"])
    return {"items": ",".join(ids), "costs": info.costs, "usage": json.dumps(info.usage) if info.usage else ""}


def _job_info(context: Context, tile: Tile, job: dict[str, Any]) -> JobInfo:
    costs = job.get("costs")
    return JobInfo(
        backend_url=context.backend(tile.backend).url,
        job_id=tile.job_id,
        title=str(job.get("title") or ""),
        process_graph=(job.get("process") or {}).get("process_graph"),
        costs=None if costs is None else float(costs),
        usage=job.get("usage") or {},
    )


def _row_interval(row: pd.Series[Any]) -> tuple[datetime, datetime] | None:
    """The interval that the table asks for, in the columns that the users' tables have."""
    try:
        start, end = (datetime.fromisoformat(str(row[name])) for name in ("start_date", "end_date"))
    except (KeyError, ValueError):
        return None
    return _aware(start), _aware(end)


def _job_interval(job: dict[str, Any]) -> tuple[datetime, datetime]:
    """The moment the job was created: better than no time at all."""
    created = backend.created_at(job)
    moment = min(created, datetime.now(UTC))
    return moment, moment


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _geometry(row: pd.Series[Any]) -> dict[str, Any] | None:
    geometry = row.get("geometry")
    return None if geometry is None else dict(geometry.__geo_interface__)
