"""A static STAC catalog on disk that many workers write at once: one file per item, no file that they share.

    <root>/catalog.json
    <root>/<collection>/collection.json
    <root>/<collection>/<shard>/catalog.json
    <root>/<collection>/<shard>/<item id>.json

`put` writes only the item, by rename. `finalize` derives the other files from the items that are there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from campaign.errors import InvalidInput
from workers.collection import CollectionInfo, Digest, catalog_document, collection_document
from workers.stac import is_item_id

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

ITEMS_PER_SHARD = 1_000
"""The shard of a tile is its order in the table divided by this."""
PASSES = 5
"""How often `finalize` starts again when items came or went meanwhile."""
STRUCTURE = frozenset({"root", "parent", "collection", "self"})
"""Links that belong to the catalog, whatever the item came with."""
SHARD_NAME = re.compile(r"\d{4,}")


@dataclass(frozen=True, slots=True)
class Summary:
    """What `finalize` found."""

    items: int
    shards: int
    unreadable: list[Path] = field(default_factory=list)
    """Item files that are no item; they are left out."""


class StaticCatalog:
    """One collection of a static catalog; cheap to make, keeps nothing open and nothing in memory."""

    def __init__(self, root: Path, collection: CollectionInfo) -> None:
        if not is_item_id(collection.id):
            raise InvalidInput(f"{collection.id!r} is not a collection id: use letters, digits, '_', '.' and '-'")
        self.root = root
        self.collection = collection
        self.folder = root / collection.id

    def put(self, item: dict[str, Any], shard: int) -> Path:
        """Write `item`; again with the same content, nothing happens.

        Args:
            item: a STAC item with a safe id; asset hrefs that are local paths become relative to its file.
            shard: order of the tile // `ITEMS_PER_SHARD`; the same for every version of one item.

        Raises:
            InvalidInput: the id is not safe as a file name.
        """
        path = self._path(item["id"], shard)
        links = [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "./catalog.json", "type": "application/json"},
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
            *(link for link in item.get("links", ()) if link["rel"] not in STRUCTURE),
        ]
        assets = {
            key: asset | {"href": _relative(asset["href"], path.parent)}
            for key, asset in item.get("assets", {}).items()
        }
        _write(path, item | {"links": links, "assets": assets, "collection": self.collection.id})
        return path

    def remove(self, item_id: str, shard: int) -> None:
        """Take an item out; nothing happens if it is not there."""
        self._path(item_id, shard).unlink(missing_ok=True)

    def finalize(self) -> Summary:
        """Write the shards' catalogs, the collection and the root catalog; the same items give the same files.

        Safe while items come and go and when run twice at once: whoever writes last has looked again after writing,
        and starts over if what it wrote is not what is there.
        """
        for _ in range(PASSES):
            state = hashlib.sha256()
            summary = self._finalize_collection(state)
            self._finalize_root()
            if self._state() == state.digest():
                break
        else:
            logger.warning(
                "items keep coming; finalize again when they stop",
                extra={"action": "finalize", "collection": self.collection.id},
            )
        return summary

    def _finalize_collection(self, state: Any) -> Summary:
        digest, unreadable, shards = Digest(), [], []
        for shard in _shards(self.folder):
            names = []
            for entry in _items(shard, state):
                try:
                    digest.add(json.loads(Path(entry).read_bytes()))
                except FileNotFoundError:
                    continue
                except (ValueError, KeyError, TypeError, AttributeError) as e:
                    logger.error(  # noqa: TRY400 - which file it is says more than where it was read
                        "%s is no STAC item: %r", entry.path, e, extra={"action": "finalize", "item": entry.name}
                    )
                    unreadable.append(Path(entry))
                    continue
                names.append(entry.name)
            _write(shard / "catalog.json", catalog_document(self.collection, shard.name, names))
            shards.append(shard.name)
        _write(self.folder / "collection.json", collection_document(self.collection, digest, shards))
        return Summary(digest.count, len(shards), unreadable)

    def _state(self) -> bytes:
        """Changes when an item file is added, replaced or removed."""
        state = hashlib.sha256()
        for shard in _shards(self.folder):
            for _ in _items(shard, state):
                pass
        return state.digest()

    def _finalize_root(self) -> None:
        for _ in range(PASSES):
            children = sorted(path.parent.name for path in self.root.glob("*/collection.json"))
            _write(self.root / "catalog.json", catalog_document(None, self.root.name, children))
            if children == sorted(path.parent.name for path in self.root.glob("*/collection.json")):
                return

    def _path(self, item_id: str, shard: int) -> Path:
        if not is_item_id(item_id):
            raise InvalidInput(f"{item_id!r} is not safe as a file name: use workers.stac.item_id()")
        return self.folder / f"{shard:04d}" / f"{item_id}.json"


def _shards(folder: Path) -> list[Path]:
    try:
        found = [Path(entry) for entry in os.scandir(folder) if SHARD_NAME.fullmatch(entry.name) and entry.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: int(path.name))


def _items(shard: Path, state: Any) -> Iterator[os.DirEntry[str]]:
    """The item files of a shard by name; what identifies their versions goes into the hash `state`."""
    entries = sorted(os.scandir(shard), key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or not entry.name.endswith(".json") or entry.name == "catalog.json":
            continue
        with contextlib.suppress(FileNotFoundError):
            stat = entry.stat()
            state.update(f"{shard.name}/{entry.name} {stat.st_mtime_ns} {stat.st_ino} {stat.st_size}\n".encode())
            yield entry


def _relative(href: str, folder: Path) -> str:
    """`href` from `folder`, if it is a path or a file URL on this machine."""
    if href.startswith("file://"):
        href = unquote(urlsplit(href).path)
    elif not href.startswith("/"):
        return href
    # Real paths: '..' does not lead back through a symbolic link.
    path = os.path.relpath(os.path.realpath(href), os.path.realpath(folder))
    return path if path.startswith("..") else f"./{path}"


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write by rename: a reader sees the old file or the new one; the same content is not written again."""
    content = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            temporary.write_bytes(content)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
