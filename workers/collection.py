"""The documents of a static catalog above its items: what the items have in common, extents, links."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workers.stac import PROJECTION, STAC_VERSION, aware, item_id, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

LIMIT = 100
"""Most values of one summary: more of them are no summary."""
COMMON_ASSET_FIELDS = ("type", "roles", "title", "description", "gsd")
COMMON_BAND_FIELDS = ("name", "data_type", "nodata", "unit", "raster:scale", "raster:offset")


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What the user says of the collection; the rest comes from its items."""

    id: str
    description: str
    title: str | None = None
    license: str = "other"
    """SPDX identifier or `other`."""
    keywords: Sequence[str] = ()
    providers: Sequence[Mapping[str, Any]] = ()
    """STAC Provider Objects."""


@dataclass(slots=True)
class Digest:
    """What the items of a collection have in common, taken in one by one: memory does not grow with their number."""

    count: int = 0
    first: datetime | None = None
    last: datetime | None = None
    south: float = 90.0
    north: float = -90.0
    plain: tuple[float, float] = (180.0, -180.0)
    """West and east with longitudes in -180..180."""
    shifted: tuple[float, float] = (360.0, 0.0)
    """West and east with longitudes in 0..360, where what lies across the antimeridian is in one piece."""
    codes: dict[str, None] = field(default_factory=dict)
    bands: dict[str, dict[str, Any]] = field(default_factory=dict)
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, item: Mapping[str, Any]) -> None:
        """Take in an item."""
        properties = item["properties"]
        start, end = (
            aware(properties.get(name) or properties["datetime"]) for name in ("start_datetime", "end_datetime")
        )
        west, south, east, north = _flat(item["bbox"]) if item.get("bbox") else (180.0, 90.0, -180.0, -90.0)
        assets = {key: _common_asset(asset) for key, asset in item["assets"].items()}
        # Nothing is changed above: an item that is none leaves no trace.
        self.count += 1
        self.first = min(start, self.first or start)
        self.last = max(end, self.last or end)
        if item.get("bbox"):
            self._grow(west, south, east, north)
        code = properties.get("proj:code")
        if code and len(self.codes) <= LIMIT:
            self.codes[code] = None
        for key, asset in assets.items():
            self._meet(key, asset)

    def _grow(self, west: float, south: float, east: float, north: float) -> None:
        self.south, self.north = min(south, self.south), max(north, self.north)
        low, high = (west, east) if west <= east else (-180.0, 180.0)
        self.plain = min(low, self.plain[0]), max(high, self.plain[1])
        low, high = (west % 360, east % 360) if west <= east else (west, east + 360)
        if low > high or east - west >= 360:  # noqa: PLR2004 - degrees; it lies across the prime meridian
            low, high = 0.0, 360.0
        self.shifted = min(low, self.shifted[0]), max(high, self.shifted[1])

    def _meet(self, key: str, asset: dict[str, Any]) -> None:
        for band in asset.get("bands", ()):
            if len(self.bands) <= LIMIT:
                self.bands.setdefault(band.get("name", ""), band)
        known = self.assets.get(key)
        if known is None and len(self.assets) <= LIMIT:
            self.assets[key] = asset
        elif known is not None and known != asset:
            self.assets[key] = {name: value for name, value in known.items() if asset.get(name) == value}

    def bbox(self) -> list[float]:
        """West, south, east, north: the narrower way around the Earth; west > east across the antimeridian."""
        if self.south > self.north:
            return [-180.0, -90.0, 180.0, 90.0]
        west, east = self.plain
        if self.shifted[1] - self.shifted[0] < east - west:
            west, east = ((lon + 180) % 360 - 180 for lon in self.shifted)
        return [round(west, 7), self.south, round(east, 7), self.north]


def collection_document(info: CollectionInfo, digest: Digest, shards: Iterable[str]) -> dict[str, Any]:
    """`collection.json`."""
    summaries: dict[str, Any] = {}
    if 0 < len(digest.codes) <= LIMIT:
        summaries["proj:code"] = sorted(digest.codes)
    if 0 < len(digest.bands) <= LIMIT:
        summaries["bands"] = [digest.bands[name] for name in sorted(digest.bands)]
    interval = [rfc3339(time) if time else None for time in (digest.first, digest.last)]
    document: dict[str, Any] = {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [PROJECTION] if digest.codes else [],
        "id": info.id,
        "description": info.description or info.title or info.id,
        "license": info.license,
        "keywords": list(info.keywords),
        "providers": [dict(provider) for provider in info.providers],
        "extent": {"spatial": {"bbox": [digest.bbox()]}, "temporal": {"interval": [interval]}},
        "summaries": summaries,
        "item_assets": {key: digest.assets[key] for key in sorted(digest.assets)}
        if len(digest.assets) <= LIMIT
        else {},
        "links": [
            _link("root", "../catalog.json"),
            _link("parent", "../catalog.json"),
            *(_link("child", f"./{name}/catalog.json", name) for name in shards),
        ],
    }
    if info.title:
        document["title"] = info.title
    return {key: value for key, value in document.items() if value or key not in {"keywords", "providers", "summaries"}}


def catalog_document(info: CollectionInfo | None, name: str, children: Iterable[str]) -> dict[str, Any]:
    """`catalog.json` of the shard `name` of a collection, with its items' file names, or of the root (no `info`)."""
    if info is None:
        described = {"id": item_id(name), "description": "Collections written by openeo-fleet."}
        links = [
            _link("root", "./catalog.json"),
            *(_link("child", f"./{one}/collection.json", one) for one in children),
        ]
    else:
        described = {"id": f"{info.id}-{name}", "description": f"Part {name} of {info.title or info.id}."}
        links = [
            _link("root", "../../catalog.json"),
            _link("parent", "../collection.json"),
            *({"rel": "item", "href": f"./{one}", "type": "application/geo+json"} for one in children),
        ]
    return {"type": "Catalog", "stac_version": STAC_VERSION, **described, "links": links}


def _link(rel: str, href: str, title: str = "") -> dict[str, Any]:
    return {"rel": rel, "href": href, "type": "application/json"} | ({"title": title} if title else {})


def _flat(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """West, south, east, north of a bbox of four or six numbers."""
    half = len(bbox) // 2
    return float(bbox[0]), float(bbox[1]), float(bbox[half]), float(bbox[half + 1])


def _common_asset(asset: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: asset[name] for name in COMMON_ASSET_FIELDS if name in asset}
    bands = [{name: band[name] for name in COMMON_BAND_FIELDS if name in band} for band in asset.get("bands", ())]
    return found | ({"bands": bands} if bands else {})
