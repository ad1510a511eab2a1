"""STAC metadata of a job's results, in the forms back-ends give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.behaviour import Behaviour
    from sandbox.store import Job

_PROJ_V1 = "https://stac-extensions.github.io/projection/v1.1.0/schema.json"
_PROJ_V2 = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_EO = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"
_FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
_PROCESSING = "https://stac-extensions.github.io/processing/v1.1.0/schema.json"
_WORLD = [-180.0, -90.0, 180.0, 90.0]
_GEOJSON, _JSON = "application/geo+json", "application/json"


class Results:
    """One job's results as documents.

    Args:
        job: a finished job.
        url: URL of the results on this server.
        link: makes the href of a path below it, signed if need be ("" is the results themselves).
        behaviour: which of the forms to give.
    """

    def __init__(self, job: Job, url: str, link: Callable[[str], str], behaviour: Behaviour) -> None:
        self.job, self.url, self.link, self.behaviour = job, url, link, behaviour
        self.files: list[dict[str, Any]] = (job.outcome or {}).get("files", [])
        self.start, self.end = _interval(job.process_graph)

    def document(self) -> dict[str, Any]:
        """What `GET /jobs/{id}/results` answers."""
        return self._feature() if self.behaviour.items == "feature" else self._collection()

    def item(self, item_id: str) -> dict[str, Any] | None:
        """One item, or None if there is no such."""
        if self.behaviour.items == "grouped":
            return next((item for item in self._grouped() if item["id"] == item_id), None)
        return next((self._item(file) for file in self.files if file["name"] == item_id), None)

    def _collection(self) -> dict[str, Any]:
        boxes = [file["bbox"] for file in self.files if file["bbox"]]
        return {
            "type": "Collection",
            "stac_version": "1.0.0",
            "stac_extensions": [_EO, _FILE, _PROCESSING, _PROJ_V1],
            "id": self.job.id,
            "title": self.job.title,
            "description": self.job.submission.get("description") or f"Results for batch job {self.job.id}",
            "license": "proprietary",
            "extent": {
                "spatial": {"bbox": [_union(boxes)]},
                "temporal": {"interval": [[self.start, self.end]]},
            },
            "summaries": {"instruments": ["msi"]},
            "providers": self._providers(),
            "openeo:status": "finished",
            "links": self._links(),
            "assets": {file["name"]: self._asset(file) for file in self.files},
        }

    def _links(self) -> list[dict[str, Any]]:
        links: list[dict[str, Any]] = [
            {"rel": "self", "href": self.url, "type": _JSON},
            {"rel": "canonical", "href": self.link(""), "type": _JSON},
        ]
        if self.behaviour.items == "files":
            links += [self._item_link(file["name"]) for file in self.files]
        elif self.behaviour.items == "grouped":
            links += [self._item_link(item["id"]) for item in self._grouped()]
        return links

    def _item_link(self, item_id: str) -> dict[str, Any]:
        return {"rel": "item", "href": self.link(f"/items/{item_id}"), "type": _GEOJSON, "title": item_id}

    def _providers(self) -> list[dict[str, Any]]:
        graph = {"format": "openeo", "expression": self.job.process_graph}
        return [
            {
                "name": "openEO sandbox",
                "description": "This data was processed on a local openEO back-end.",
                "roles": ["processor"],
                "processing:facility": "openEO sandbox",
                "processing:software": {"openEO sandbox": "0.1.0"},
                "processing:expression": graph,
            }
        ]

    def _asset(self, file: dict[str, Any]) -> dict[str, Any]:
        bands = [{"name": band} for band in file["bands"]]
        asset = {
            "href": self.link(f"/assets/{file['name']}"),
            "type": file["media_type"],
            "title": file["name"],
            "roles": ["data"],
            "eo:bands": bands,
            "bands": bands,
            **_projection(file),
        }
        if self.behaviour.file_sizes:
            asset["file:size"] = file["size"]
        if self.behaviour.checksums:
            asset["file:checksum"] = file["checksum"]
        return asset

    def _item(self, file: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "stac_extensions": [_EO, _FILE, _PROJ_V1],
            "id": file["name"],
            "collection": self.job.id,
            "bbox": file["bbox"] or _WORLD,
            "geometry": _rectangle(file["bbox"] or _WORLD),
            "properties": {**self._times(file), **_projection(file)},
            "links": [
                {"rel": "self", "href": self.link(f"/items/{file['name']}"), "type": _GEOJSON},
                {"rel": "collection", "href": self.link(""), "type": _JSON},
            ],
            "assets": {file["name"]: self._asset(file)},
        }

    def _times(self, file: dict[str, Any]) -> dict[str, Any]:
        if file["datetimes"] and file["datetimes"][0] == file["datetimes"][1]:
            return {"datetime": file["datetimes"][0]}
        start, end = file["datetimes"] or (self.start, self.end)
        return {"datetime": start if end is None else None, "start_datetime": start, "end_datetime": end or start}

    def _grouped(self) -> list[dict[str, Any]]:
        """STAC 1.1 items, one for all files of one time, ids with a colon."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for file in self.files:
            groups.setdefault(file["datetimes"][0] if file["datetimes"] else self.start or "all", []).append(file)
        items = []
        for time, files in groups.items():
            item = self._item(files[0])
            item |= {"stac_version": "1.1.0", "id": f"{self.job.id}:{time}", "stac_extensions": [_FILE, _PROJ_V2]}
            item["assets"] = {file["name"]: self._asset(file) for file in files}
            item["links"][0]["href"] = self.link(f"/items/{item['id']}")
            items.append(item)
        return items

    def _feature(self) -> dict[str, Any]:
        """A single Feature as of API 1.0: no geometry, every asset."""
        return {
            "type": "Feature",
            "stac_version": "0.9.0",
            "id": self.job.id,
            "geometry": None,
            "properties": {
                "datetime": None,
                "start_datetime": self.start,
                "end_datetime": self.end,
                "created": self.job.created,
            },
            "links": [{"rel": "canonical", "href": self.link(""), "type": _JSON}],
            "assets": {file["name"]: self._asset(file) for file in self.files},
        }


def _projection(file: dict[str, Any]) -> dict[str, Any]:
    if file["epsg"] is None:
        return {}
    return {
        "proj:epsg": file["epsg"],
        "proj:shape": file["shape"],
        "proj:transform": file["transform"],
        "proj:bbox": file["bounds"],
    }


def _interval(graph: dict[str, Any]) -> tuple[str | None, str | None]:
    """The widest temporal extent any node of the graph asks for, RFC 3339."""
    extents = [node.get("arguments", {}).get("temporal_extent") for node in graph.values()]
    known = [extent for extent in extents if isinstance(extent, list) and len(extent) == 2]  # noqa: PLR2004 - start and end
    starts = [extent[0] for extent in known if isinstance(extent[0], str)]
    ends = [extent[1] for extent in known if isinstance(extent[1], str)]
    return (_stamp(min(starts)) if starts else "2015-07-04T00:00:00Z", _stamp(max(ends)) if ends else None)


def _stamp(text: str) -> str:
    return text if "T" in text else f"{text}T00:00:00Z"


def _union(boxes: list[list[float]]) -> list[float]:
    if not boxes:
        return _WORLD
    west, south, east, north = zip(*boxes, strict=True)
    return [min(west), min(south), max(east), max(north)]


def _rectangle(bbox: list[float]) -> dict[str, Any]:
    west, south, east, north = bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
