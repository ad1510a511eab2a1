"""What stays on disk beside the results: which campaign they are of, and which tiles are delivered.

A campaign whose Redis is gone is rebuilt from it, and nobody begins it a second time by mistake.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from campaign.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from campaign.meta import CampaignMeta

FORM = 1
"""Version of both files; one that is newer than this is not read."""

RECORD_NAME = "campaign.json"
"""The record of a campaign, in its folder."""

MANIFEST_NAME = "tile.json"
"""The manifest of a tile, in its folder."""


@dataclass(frozen=True)
class Record:
    """That a campaign was enqueued: `<output>/<campaign>/campaign.json`."""

    campaign: str
    run: str
    """What the markers of its jobs carry."""
    digest: str
    """Of its table."""
    created_at: float
    """When it was enqueued first, seconds since the epoch."""
    urls: Mapping[str, str]
    """Back-ends: name -> root URL."""


@dataclass(frozen=True)
class Manifest:
    """That the delivery of a tile is complete: `<output>/<campaign>/<tile>/tile.json`, written after everything else."""

    campaign: str
    tile: str
    run: str
    attempt: int
    backend: str
    job_id: str
    items: Sequence[str]
    """Ids of its STAC items."""
    files: Mapping[str, int]
    """Name -> size in bytes: assets and items."""
    costs: float | None
    spent: float
    """What the jobs of earlier attempts were charged."""
    usage: str
    """The back-end's usage metrics, as JSON."""
    finished_at: float
    """When the job was seen finished, seconds since the epoch."""


_T = TypeVar("_T", Record, Manifest)


def campaign_folder(output: str | Path, campaign: str) -> Path:
    """The folder of a campaign's results, with a folder for each tile."""
    return Path(output) / campaign


def write_record(output: str | Path, record: Record) -> None:
    """Keep `record`, by rename.

    Raises:
        InvalidInput: the output folder cannot be written.
    """
    path = campaign_folder(output, record.campaign) / RECORD_NAME
    part = path.with_name(f".{RECORD_NAME}-{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("w", encoding="utf-8") as file:
                file.write(to_json(record))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInput(f"output {path}: cannot be written ({error.strerror}); choose another output") from error


def remember(output: str | Path, meta: CampaignMeta) -> None:
    """Keep the record of a campaign, with all back-ends that it ever had.

    Raises:
        InvalidInput: the output folder cannot be written.
    """
    try:
        before = read_record(output, meta.name)
    except InvalidInput:
        before = None
    urls = dict(before.urls) if before is not None and before.run == meta.run else {}
    record = Record(meta.name, meta.run, meta.digest, meta.created_at, urls | dict(meta.urls))
    if record != before:
        write_record(output, record)


def read_record(output: str | Path, campaign: str) -> Record | None:
    """The record of `campaign`, None where there is none.

    Raises:
        InvalidInput: it cannot be read; nothing should be done before somebody looked at it.
    """
    path = campaign_folder(output, campaign) / RECORD_NAME
    try:
        return _from_json(Record, path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidInput(
            f"{path}: is no record of a campaign that this version can read ({type(error).__name__}: {error}); "
            "restore it, or remove it: then the campaign's jobs say which run it was"
        ) from error


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in a tile's folder, None where there is none or where not all that it names is there."""
    try:
        found = _from_json(Manifest, (folder / MANIFEST_NAME).read_text("utf-8"))
        complete = all((folder / name).stat().st_size == size for name, size in found.files.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return found if complete and found.items and found.tile == folder.name else None


def delivered(output: str | Path, campaign: str) -> int:
    """How many tiles of a campaign have a manifest."""
    return sum(1 for _ in campaign_folder(output, campaign).glob(f"*/{MANIFEST_NAME}"))


def to_json(what: Record | Manifest) -> str:
    """As it is kept."""
    return json.dumps({"form": FORM, **asdict(what)}, indent=1)


def _from_json(kind: type[_T], text: str) -> _T:
    kept: dict[str, Any] = json.loads(text)
    if kept["form"] > FORM:
        raise ValueError(f"it is of form {kept['form']}, and this version knows {FORM}")
    read: dict[str, Any] = {field.name: kept[field.name] for field in fields(kind)}
    return kind(**read)
