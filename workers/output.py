"""Where the files of a tile go: names that any worker makes again the same way."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaign.record import MANIFEST_NAME, campaign_folder, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from campaign.meta import CampaignMeta
    from campaign.record import Manifest
    from campaign.tile import Tile

_PART = ".part-"
_ITEM = ".stac.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_NAME = 120


@dataclass(frozen=True)
class ResultFile:
    """Where one asset goes, and the id of its item."""

    path: Path
    item_id: str


class TileFolder:
    """The folder of one tile: `<output>/<campaign>/<tile>/`, with its assets, one STAC item beside each, a manifest."""

    def __init__(self, meta: CampaignMeta, tile: Tile) -> None:
        self.path = campaign_folder(meta.output, tile.campaign) / tile.id
        self._tile = tile

    def files(self, names: Sequence[str]) -> list[ResultFile]:
        """Where the assets that a back-end calls `names` go: never outside the folder, each to a place of its own."""
        paths = _distinct([_plain(name) for name in names], names)
        stems = [Path(path).stem.replace(".", "_") for path in paths]
        with_suffix = [path.replace(".", "_") for path in paths]
        ids = [stem if stems.count(stem) == 1 else whole for stem, whole in zip(stems, with_suffix, strict=True)]
        return [
            ResultFile(self.path / path, f"{self._tile.id}.{ending}")
            for path, ending in zip(paths, _distinct(ids, names), strict=True)
        ]

    def sweep(self) -> None:
        """Remove what workers that were killed left half-written."""
        for part in self.path.glob(f"{_PART}*"):
            part.unlink(missing_ok=True)

    def item(self, item_id: str) -> Path:
        """Where the STAC item `item_id` goes."""
        return self.path / f"{item_id}{_ITEM}"

    @contextmanager
    def writing(self, target: Path) -> Iterator[Path]:
        """A temporary path beside `target`, with its suffix, that takes its place when the block ends well, or is gone."""
        self.path.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{_PART}{self._tile.holder[:8]}-{target.name}")
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def write_item(self, item: dict[str, Any]) -> None:
        """Keep a STAC item beside its asset."""
        target = self.item(item["id"])
        with self.writing(target) as part:
            part.write_text(json.dumps(item, separators=(",", ":")), "utf-8")

    def begin_delivery(self) -> None:
        """Say that the delivery is not complete any more: files of the last one are about to be replaced."""
        (self.path / MANIFEST_NAME).unlink(missing_ok=True)

    def write_manifest(self, manifest: Manifest) -> None:
        """Say that the delivery is complete; the last thing to be written."""
        target = self.path / MANIFEST_NAME
        with self.writing(target) as part:
            part.write_text(to_json(manifest), "utf-8")

    def read_item(self, item_id: str) -> dict[str, Any]:
        """A STAC item that was kept, its local assets with absolute paths."""
        item: dict[str, Any] = json.loads(self.item(item_id).read_text("utf-8"))
        for asset in item["assets"].values():
            if "://" not in asset["href"]:
                asset["href"] = str((self.path / asset["href"]).resolve())
        return item


def _plain(name: str) -> str:
    """The last part of an asset's name, in plain letters, neither hidden nor too long."""
    last = unicodedata.normalize("NFKD", name.replace("\\", "/").rsplit("/", 1)[-1])
    plain = _UNSAFE.sub("_", last.encode("ascii", "ignore").decode())[-_MAX_NAME:].lstrip(".")
    if plain.lower() == MANIFEST_NAME:
        return f"_{plain}"
    return plain.replace(_ITEM, _ITEM.replace(".", "_", 1)) or "asset"


def _distinct(values: Sequence[str], names: Sequence[str]) -> list[str]:
    """`values`, those that occur more than once told apart by a digest of the name they come from."""
    return [
        value if values.count(value) == 1 else f"{sha256(name.encode()).hexdigest()[:8]}-{value}"
        for value, name in zip(values, names, strict=True)
    ]
