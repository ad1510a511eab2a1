"""postprocess: from a finished job to assets in their final place, each with a STAC item beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from campaign.errors import StoreUnavailable, TransitionLost
from campaign.message import Message, tile_message
from campaign.record import Manifest
from campaign.tile import NO_FAILURE, Step, Tile, TileStatus
from workers import backend, setbacks
from workers.failures import NoResults
from workers.items import JobInfo, build_item, item_id
from workers.limits import LOST_AFTER
from workers.output import TileFolder
from workers.schemas import validate_item
from workers.stac import aware

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from campaign.meta import CampaignMeta
    from workers.backend import Asset
    from workers.connection import FleetConnection
    from workers.context import Context
    from workers.output import ResultFile


def postprocess(context: Context, tile: Tile) -> list[Message]:
    """Download the results of the tile's job, make an item of each file, move both to their final place."""
    if setbacks.put_off_while_paused(context, tile):
        return []
    held = setbacks.claim(context, tile, Step.POSTPROCESS)
    with context.limits.leases.tile(held):
        try:
            changes = _deliver(context, held)
        except (TransitionLost, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001  (one bad tile stops one tile)
            setbacks.step_failed(context, held, Step.POSTPROCESS, setbacks.diagnose(context, held, error))
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
    folder.sweep()
    row = context.row(meta, tile)
    common = {
        "collection": tile.campaign,
        "asset_key": "data",
        "interval": found.interval or _row_interval(row) or _job_interval(job),
        "job": (info := _job_info(context, tile, job)),
        "geometry": context.geometry(meta, tile),
        "properties": {"fleet:tile": tile.id, "fleet:backend": tile.backend},
    }
    files = folder.files([asset.name for asset in found.assets])
    folder.begin_delivery()
    ids = [
        _deliver_asset(connection, asset, folder, file, common) for asset, file in zip(found.assets, files, strict=True)
    ]
    changes = {"items": ",".join(ids), "costs": info.costs, "usage": json.dumps(info.usage) if info.usage else ""}
    paths = [file.path for file in files] + [folder.item(item) for item in ids]
    folder.write_manifest(_manifest(meta, tile.evolve(**changes), paths))
    return changes


def _manifest(meta: CampaignMeta, tile: Tile, paths: list[Path]) -> Manifest:
    """What says that the tile's delivery is complete."""
    same = ("attempt", "backend", "job_id", "costs", "spent", "usage", "finished_at")
    return Manifest(
        campaign=tile.campaign,
        tile=tile.id,
        run=meta.run,
        items=tile.items.split(","),
        files={path.name: path.stat().st_size for path in paths},
        **{name: getattr(tile, name) for name in same},
    )


def _deliver_asset(
    connection: FleetConnection, asset: Asset, folder: TileFolder, file: ResultFile, common: dict[str, Any]
) -> str:
    """Download one asset, make its item and move both into place; returns the item's id."""
    with folder.writing(file.path) as part:
        backend.download(connection, asset, part)
        item = build_item(part, item_id=item_id(file.item_id), href=file.path.name, **common)
        validate_item(item)
    folder.write_item(item)
    return str(item["id"])


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
        return aware(str(row["start_date"])), aware(str(row["end_date"]))
    except (KeyError, ValueError):
        return None


def _job_interval(job: dict[str, Any]) -> tuple[datetime, datetime]:
    """The moment the job was created: better than no time at all."""
    created = backend.created_at(job)
    moment = min(created, datetime.now(UTC))
    return moment, moment
