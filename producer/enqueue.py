"""enqueue: puts a campaign into the store and sends one task per tile, the next one of its life."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from campaign import table as tables
from campaign.control import Controls, is_mended_by_a_new_file
from campaign.errors import FleetError, InvalidInput, StoreUnavailable, TransitionLost
from campaign.message import broker_options, tile_message
from campaign.meta import CampaignMeta
from campaign.record import remember
from campaign.settings import celery_url
from campaign.store import CHUNK
from campaign.tile import NEXT_STEP, Step, Tile, TileStatus
from producer.order import in_order
from producer.resume import refuse_changes, refuse_forgotten

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

    from campaign.backends import Backend
    from campaign.message import Message
    from campaign.spec import CampaignFile
    from campaign.store import TileStore

_BATCH = 500

_AS_THEY_ARE = ("pilot", "budget", "cancel_running_job_after", "cancel_queued_job_after", "stop_after")
"""Fields of `Campaign` that workers know by the same name."""


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
        InvalidInput: the table is wrong; or the campaign that is there, or was, cannot go on with this file.
    """
    table = read_table(file) if table is None else table
    tiles = in_order(file, table, tiles_of(file, table))
    known = store.campaign(file.campaign.name)
    run, created_at = (uuid.uuid4().hex[:8], time.time()) if known is None else (known.run, known.created_at)
    meta = meta_of(file, tiles, digest(table, tiles), workdir, run, created_at)
    if known is None:
        refuse_forgotten(meta.output, meta.name, file.path)
    refuse_changes(store, file, known, meta, tiles)
    put_backends(file, store)
    if known is None:
        store.put_table(meta.name, tables.encode(table, CHUNK))
    store.put_campaign(meta)
    remember(meta.output, meta)  # before there are tiles
    store.put_catalog_state(meta.name, errors=0)
    put_control(store, meta, known, tiles)
    new = store.add_tiles(tiles, meta.backends)
    if known is not None and set(known.backends) != set(meta.backends):
        _wait_anew(store, meta)
    sent = send(redis_url, store.namespace, next_messages(store, meta.name, waiting=new > 0))
    return Enqueued(meta.total, new, sent)


def put_backends(file: CampaignFile, store: TileStore) -> None:
    """Write the settings of the campaign's back-ends; their pauses end."""
    for backend in file.backends:
        fields = backend.model_dump(exclude_none=True) | {"authenticated_by": _hook(file, backend)}
        store.put_backend(backend.name, fields)
        store.clear_pause(backend.name)


def _hook(file: CampaignFile, backend: Backend) -> str:
    """The campaign whose `authenticate` logs in to a back-end; empty where none does. Campaigns share back-ends."""
    return file.campaign.name if backend.auth == "custom" else ""


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


def put_control(store: TileStore, meta: CampaignMeta, known: CampaignMeta | None, tiles: list[Tile]) -> None:
    """Write the campaign's budget and, for a new one, its pilot; a mended campaign file ends the pause that it led to."""
    controls = Controls(store)
    if known is None or known.budget != meta.budget:  # else the one that `resume --budget` gave stays
        controls.put(meta.name, budget=meta.budget)
    if known is None and 0 < meta.pilot < len(tiles):
        pilot = [tile.id for tile in sorted(tiles, key=lambda tile: tile.place)[: meta.pilot]]
        controls.put(meta.name, pilot=",".join(pilot), pilot_upto=meta.pilot)
    if known is not None and known.sha256 != meta.sha256 and is_mended_by_a_new_file(controls.get(meta.name)):
        controls.put(meta.name, paused="")
        controls.forget_errors(meta.name)


def next_messages(store: TileStore, campaign: str, *, waiting: bool = True) -> Iterable[Message]:
    """The message that moves each tile on, in the order of the table; one for all tiles tracked on a back-end.

    Args:
        store: the fleet's.
        campaign: name of the campaign.
        waiting: whether tiles that wait for room get one, too; without it the fleet's clock wakes them.
    """
    tracked = set()
    for status, step in NEXT_STEP.items():
        if status is TileStatus.NOT_STARTED and not waiting:
            continue
        for tile in store.tiles(campaign, status):
            if step is Step.TRACK and tile.backend in tracked:
                continue
            tracked |= {tile.backend} if step is Step.TRACK else set()
            if message := tile_message(tile):
                yield message


def send(redis_url: str, namespace: str, messages: Iterable[Message]) -> int:
    """Send messages to the workers, many in one round trip; returns how many.

    Raises:
        StoreUnavailable: Redis does not answer; the fleet's clock sees to what was not sent.
    """
    app = Celery("openeo-fleet", broker=celery_url(redis_url), set_as_current=False)
    app.conf.update(
        broker_transport_options=broker_options(namespace),
        task_queues=[Queue(step.value) for step in Step],  # type: ignore[no-untyped-call]
        task_default_queue=Step.SUBMIT.value,
        task_serializer="json",
        task_ignore_result=True,
    )
    sent = 0
    try:
        with app.producer_or_acquire() as producer, producer.batch(_BATCH):
            for message in messages:
                app.send_task(message.task, kwargs=dict(message.kwargs), producer=producer, **message.options())
                sent += 1
    except (OperationalError, *app.connection_for_write().connection_errors) as error:
        raise StoreUnavailable(f"Redis takes no messages: {error}") from error
    finally:
        app.close()
    return sent


def _wait_anew(store: TileStore, meta: CampaignMeta) -> None:
    """Have the tiles without a job wait for room on the back-ends that the campaign has now."""
    for tile in store.tiles(meta.name, TileStatus.NOT_STARTED):
        try:
            store.transition(tile, TileStatus.NOT_STARTED, room="wait", backends=tile.candidates(meta.backends))
        except TransitionLost:
            continue


def digest(table: pd.DataFrame, tiles: list[Tile]) -> str:
    """Of all that the tiles are made from: the table, their ids, and the back-ends they are pinned to."""
    names = json.dumps([[tile.id, tile.backend] for tile in tiles])
    return hashlib.sha256(f"{tables.digest(table)} {names}".encode()).hexdigest()


def meta_of(  # noqa: PLR0913, PLR0917  (what is found out in different places)
    file: CampaignFile, tiles: list[Tile], table_digest: str, workdir: Path, run: str, created_at: float
) -> CampaignMeta:
    """What the store keeps of the campaign of `file`."""
    return CampaignMeta(
        name=file.campaign.name,
        run=run,
        path=str(file.path),
        source=file.source,
        sha256=file.sha256,
        urls={backend.name: backend.url for backend in file.backends},
        output=str(output_folder(file, workdir)),
        publish=file.campaign.publish.model_dump(exclude_none=True),
        max_attempts=file.campaign.max_attempts,
        total=len(tiles),
        digest=table_digest,
        created_at=created_at,
        escalate=[dict(options) for options in file.campaign.escalate],
        rules=[rule.model_dump(mode="json", exclude_none=True) for rule in file.campaign.rules],
        **{name: getattr(file.campaign, name) for name in _AS_THEY_ARE},
    )


def output_folder(file: CampaignFile, workdir: Path) -> Path:
    """The folder of assets and catalog; a relative one is below the working directory.

    Raises:
        InvalidInput: it is somewhere else than on a disk.
    """
    output = file.campaign.output.removeprefix("file://")
    if "://" in output:
        raise InvalidInput(f"output {output}: has to be a folder; object stores are not supported")
    return (workdir / output).resolve()
