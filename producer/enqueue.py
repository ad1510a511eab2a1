"""enqueue: puts a campaign into the store and sends one task per tile, the next one of its life."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery import Celery
from kombu.entity import Queue

from campaign import table as tables
from campaign.errors import FleetError, InvalidInput
from campaign.message import broker_options, tile_message
from campaign.settings import celery_url
from campaign.store import CHUNK, CampaignMeta, TileStore
from campaign.tile import NEXT_STEP, Step, Tile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

    from campaign.message import Message
    from campaign.spec import CampaignFile

_BATCH = 500


@dataclass(frozen=True)
class Enqueued:
    """What came of it."""

    total: int
    """Tiles of the campaign."""
    new: int
    """Tiles that were not there before."""
    sent: int
    """Messages sent."""


def enqueue(
    file: CampaignFile, store: TileStore, redis_url: str, workdir: Path, table: pd.DataFrame | None = None
) -> Enqueued:
    """Put the campaign of `file` into the store, or take up the one that is there, and send each tile's next task.

    Args:
        file: the campaign file.
        store: the fleet's.
        redis_url: where its queues are.
        workdir: folder that relative outputs are below.
        table: the campaign's table, if it was read already.

    Raises:
        InvalidInput: the table is wrong, or another one than the campaign was enqueued with.
    """
    table = read_table(file) if table is None else table
    tiles = tiles_of(file, table)
    digest = tables.digest(table)
    known = store.campaign(file.campaign.name)
    if known is not None:
        _refuse_other_table(store, file, known, tiles, digest)
    for backend in file.backends:
        store.put_backend(backend.name, {name: value for name, value in backend.model_dump().items() if value})
    store.put_table(file.campaign.name, tables.encode(table, CHUNK))
    created_at = time.time() if known is None else known.created_at
    store.put_campaign(_meta(file, len(tiles), digest, created_at, workdir))
    new = store.add_tiles(tiles, [backend.name for backend in file.backends])
    sent = send(redis_url, store.namespace, next_messages(store, file.campaign.name))
    return Enqueued(len(tiles), new, sent)


def read_table(file: CampaignFile) -> pd.DataFrame:
    """The campaign's table.

    Raises:
        InvalidInput: it cannot be had; names the file, and the line where the user's function raised.
    """
    try:
        return tables.read_table(file.table_source)
    except FleetError:
        raise
    except Exception as error:
        raise InvalidInput(f"table: {file.where(error)}") from error


def tiles_of(file: CampaignFile, table: pd.DataFrame) -> list[Tile]:
    """The tiles of a table, in its order; pinned to the back-end that a column `backend_name` says.

    Raises:
        InvalidInput: ids are missing or doubled, or a back-end is unknown; names rows and values.
    """
    ids = tables.tile_ids(table, file.campaign.id_column)
    known = {backend.name for backend in file.backends}
    column = table["backend_name"] if "backend_name" in table.columns else [None] * len(ids)
    pins = [pin if isinstance(pin, str) and pin else "" for pin in column]
    unknown = sorted({pin for pin in pins if pin} - known)
    if unknown:
        row = pins.index(unknown[0])
        raise InvalidInput(
            f"table, column backend_name, row {row}: unknown back-end {unknown[0]!r}; "
            f"the campaign has {', '.join(sorted(known))}"
        )
    return [
        Tile(file.campaign.name, tile_id, order=order, backend=pin, pinned=bool(pin))
        for order, (tile_id, pin) in enumerate(zip(ids, pins, strict=True))
    ]


def next_messages(store: TileStore, campaign: str) -> Iterable[Message]:
    """The message that moves each tile on, in the order of the table; one for all tiles tracked on a back-end."""
    tracked = set()
    for status, step in NEXT_STEP.items():
        for tile in store.tiles(campaign, status):
            if step is Step.TRACK and tile.backend in tracked:
                continue
            tracked |= {tile.backend} if step is Step.TRACK else set()
            if message := tile_message(tile):
                yield message


def send(redis_url: str, namespace: str, messages: Iterable[Message]) -> int:
    """Send messages to the workers, many in one round trip; returns how many."""
    app = Celery("openeo-fleet", broker=celery_url(redis_url), set_as_current=False)
    app.conf.update(
        broker_transport_options=broker_options(namespace),
        task_queues=[Queue(step.value) for step in Step],  # type: ignore[no-untyped-call]
        task_default_queue=Step.SUBMIT.value,
        task_serializer="json",
        task_ignore_result=True,
    )
    sent = 0
    with app.producer_or_acquire() as producer, producer.batch(_BATCH):
        for message in messages:
            app.send_task(message.task, kwargs=dict(message.kwargs), producer=producer, **message.options())
            sent += 1
    app.close()
    return sent


def _refuse_other_table(
    store: TileStore, file: CampaignFile, known: CampaignMeta, tiles: list[Tile], digest: str
) -> None:
    """A table that differs from the enqueued one would be ignored in silence: never."""
    if known.digest == digest:
        return
    new = sum(tile is None for tile in store.get_many(known.name, [tile.id for tile in tiles]))
    raise InvalidInput(
        f"{file.path}: the table of campaign {known.name} is not the one it was enqueued with "
        f"({known.total} tiles then, {len(tiles)} now, {new} of them new); give the campaign another name, "
        "or restore the table"
    )


def _meta(file: CampaignFile, total: int, digest: str, created_at: float, workdir: Path) -> CampaignMeta:
    return CampaignMeta(
        name=file.campaign.name,
        path=str(file.path),
        sha256=file.sha256,
        urls={backend.name: backend.url for backend in file.backends},
        output=str(output_folder(file, workdir)),
        publish=file.campaign.publish.model_dump(exclude_none=True),
        max_attempts=file.campaign.max_attempts,
        total=total,
        digest=digest,
        created_at=created_at,
    )


def output_folder(file: CampaignFile, workdir: Path) -> Path:
    """The folder of assets and catalog; a relative one is below the working directory."""
    return (workdir / file.campaign.output.removeprefix("file://")).resolve()
