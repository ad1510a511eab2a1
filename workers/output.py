"""Where the files of a tile go: names that any worker makes again the same way."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaign.store import CampaignMeta
    from campaign.tile import Tile

_PART = ".part-"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_NAME = 120


class TileFolder:
    """The folder of one tile: `<output>/<campaign>/<tile>/`, with its assets and one STAC item beside each."""

    def __init__(self, meta: CampaignMeta, tile: Tile) -> None:
        self.path = Path(meta.output) / tile.campaign / tile.id

    def asset(self, name: str) -> Path:
        """Where the asset that the back-end calls `name` goes; never outside the folder."""
        plain = unicodedata.normalize("NFKD", name.replace("\\", "/").rsplit("/", 1)[-1])
        plain = plain.encode("ascii", "ignore").decode()
        return self.path / (_UNSAFE.sub("_", plain).lstrip(".")[-_MAX_NAME:] or "asset")

    def item(self, item_id: str) -> Path:
        """Where the STAC item `item_id` goes."""
        return self.path / f"{item_id}.stac.json"

    @contextmanager
    def writing(self, target: Path) -> Iterator[Path]:
        """A temporary path beside `target`, with its suffix, that takes its place when the block ends well, or is gone."""
        self.path.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{_PART}{target.name}")
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

    def read_item(self, item_id: str) -> dict[str, Any]:
        """A STAC item that was kept, its local assets with absolute paths."""
        item: dict[str, Any] = json.loads(self.item(item_id).read_text("utf-8"))
        for asset in item["assets"].values():
            if "://" not in asset["href"]:
                asset["href"] = str((self.path / asset["href"]).resolve())
        return item
