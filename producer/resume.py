"""resume: what a campaign that is in the store already cannot go on with is refused before anything is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from campaign.errors import InvalidInput
from campaign.record import campaign_folder, delivered, read_record
from campaign.tile import TileStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from campaign.backends import Backend
    from campaign.meta import CampaignMeta
    from campaign.record import Record
    from campaign.spec import CampaignFile
    from campaign.store import TileStore
    from campaign.tile import Tile

_ON_BACKEND = (TileStatus.CREATED, TileStatus.QUEUED, TileStatus.RUNNING, TileStatus.FINISHED)
"""Statuses in which the job on the back-end is still needed."""

_IN_OUTPUT = (TileStatus.POSTPROCESSED, TileStatus.PUBLISHED)
"""Statuses in which a tile has files in the output folder."""


def refuse_changes(
    store: TileStore, file: CampaignFile, known: CampaignMeta | None, meta: CampaignMeta, tiles: Sequence[Tile]
) -> None:
    """Refuse what would be ignored in silence, or would buy jobs a second time.

    Args:
        store: the fleet's.
        file: the campaign file.
        known: the campaign as it was enqueued, None if it never was.
        meta: the campaign as it is to be now.
        tiles: its tiles now.

    Raises:
        InvalidInput: another table, output folder or URL of a back-end than the one that work was done with.
    """
    if known is not None:
        _refuse_other_table(store, file, known, meta, tiles)
        _refuse_other_output(store, known, meta)
    for backend in file.backends:
        if backend.name not in file.moved:
            _refuse_other_url(store, file, backend)


def refuse_forgotten(output: str | Path, campaign: str, path: Path) -> None:
    """Refuse to begin a campaign of which the store knows nothing, but that was run before: its jobs were paid for.

    Args:
        output: folder of its results.
        campaign: its name.
        path: the campaign file.

    Raises:
        InvalidInput: its record is there; says when it was run, and what to do.
    """
    record = read_record(output, campaign)
    if record is None:
        return
    when = f"{datetime.fromtimestamp(record.created_at, UTC):%Y-%m-%d %H:%M} UTC"
    raise InvalidInput(
        f"campaign {campaign} was run before (since {when}; {delivered(output, campaign)} tiles have their results in "
        f"{campaign_folder(output, campaign)}), and the store does not know it: `openeo-fleet recover {path}` rebuilds "
        "it without paying twice; to begin anew, give the campaign another name or output"
    )


def refuse_other_record(file: CampaignFile, record: Record, table_digest: str) -> None:
    """Refuse to rebuild a campaign from a file that would not find all its jobs, or take them for other tiles'.

    Raises:
        InvalidInput: another table than the one that work was done with, or a back-end is missing or elsewhere.
    """
    if record.digest != table_digest:
        raise InvalidInput(
            f"{file.path}: the table of campaign {record.campaign} is not the one it was enqueued with (values, ids and "
            "back-ends count); restore the table"
        )
    urls = {backend.name: backend.url for backend in file.backends}
    for name, url in record.urls.items():
        if name not in urls:
            raise InvalidInput(
                f"{file.path}: campaign {record.campaign} had jobs on back-end {name} ({url}), which is missing: its "
                "jobs would not be found; put it back"
            )
        if url != urls[name] and name not in file.moved:
            option = f"--backend {name}="
            raise InvalidInput(
                f"back-end {name}: {urls[name]} is not {url}, where jobs of campaign {record.campaign} are; write "
                f"{option}{url} to look there, or {option}{urls[name]} if it is the same back-end"
            )


def _refuse_other_table(
    store: TileStore, file: CampaignFile, known: CampaignMeta, meta: CampaignMeta, tiles: Sequence[Tile]
) -> None:
    if known.digest == meta.digest:
        return
    new = sum(tile is None for tile in store.get_many(known.name, [tile.id for tile in tiles]))
    raise InvalidInput(
        f"{file.path}: the table of campaign {known.name} is not the one it was enqueued with "
        f"({known.total} tiles then, {len(tiles)} now, {new} of them new; values, ids and back-ends count); "
        "give the campaign another name, or restore the table"
    )


def _refuse_other_output(store: TileStore, known: CampaignMeta, meta: CampaignMeta) -> None:
    counts = store.counts(known.name)
    there = sum(counts.get(status, 0) for status in _IN_OUTPUT)
    if there and known.output != meta.output:
        raise InvalidInput(
            f"output {meta.output}: the results of {there} tiles of campaign {known.name} are in {known.output}; "
            f'write output="{known.output}", or give the campaign another name'
        )


def _refuse_other_url(store: TileStore, file: CampaignFile, backend: Backend) -> None:
    before = store.backend(backend.name)
    if before.url in {"", backend.url}:
        return
    jobs = max(before.places, _jobs_on(store, file.campaign.name, backend.name))
    if jobs:
        option = f"--backend {backend.name}="
        raise InvalidInput(
            f"back-end {backend.name}: {backend.url} is not {before.url}, where {jobs} jobs of this fleet are; "
            f"write {option}{before.url} to go on there, or {option}{backend.url} if it is the same back-end"
        )


def _jobs_on(store: TileStore, campaign: str, backend: str) -> int:
    return sum(tile.backend == backend for status in _ON_BACKEND for tile in store.tiles(campaign, status))
