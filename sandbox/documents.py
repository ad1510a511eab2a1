"""The back-end's fixed documents: capabilities, formats, the collection."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

from sandbox.bands import BANDS, COLLECTION

if TYPE_CHECKING:
    from sandbox.behaviour import Behaviour

API_VERSION = "1.2.0"
CONFORMANCE = [
    "https://api.openeo.org/1.2.0",
    "https://api.openeo.org/extensions/processing-parameters/0.1.0",
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
]
#: What every client finds; estimates come and go with the behaviour.
_ENDPOINTS: dict[str, list[str]] = {
    "/": ["GET"],
    "/conformance": ["GET"],
    "/collections": ["GET"],
    "/collections/{collection_id}": ["GET"],
    "/processes": ["GET"],
    "/file_formats": ["GET"],
    "/udf_runtimes": ["GET"],
    "/credentials/basic": ["GET"],
    "/credentials/oidc": ["GET"],
    "/me": ["GET"],
    "/validation": ["POST"],
    "/result": ["POST"],
    "/jobs": ["GET", "POST"],
    "/jobs/{job_id}": ["GET", "PATCH", "DELETE"],
    "/jobs/{job_id}/logs": ["GET"],
    "/jobs/{job_id}/results": ["GET", "POST", "DELETE"],
}


def well_known(root: str) -> dict[str, Any]:
    """`/.well-known/openeo`: where the API is."""
    return {"versions": [{"url": root, "production": False, "api_version": API_VERSION}]}


def capabilities(root: str, behaviour: Behaviour) -> dict[str, Any]:
    """`/`: what there is."""
    endpoints = {**_ENDPOINTS, "/jobs/{job_id}": ["GET", *(["PATCH"] if behaviour.patch else []), "DELETE"]}
    if behaviour.estimates:
        endpoints["/jobs/{job_id}/estimate"] = ["GET"]
    return {
        "api_version": API_VERSION,
        "backend_version": "0.1.0",
        "stac_version": "1.0.0",
        "type": "Catalog",
        "id": "openeo-sandbox",
        "title": "openEO sandbox",
        "description": "A local openEO back-end that executes process graphs on Sentinel-2-like scenes.",
        "production": False,
        "conformsTo": CONFORMANCE,
        "endpoints": [{"path": path, "methods": methods} for path, methods in endpoints.items()],
        "billing": {
            "currency": "credits",
            "default_plan": "free",
            "plans": [{"name": "free", "description": "Free.", "paid": False}],
        },
        "links": [
            {"rel": "self", "href": f"{root}/", "type": "application/json"},
            {"rel": "conformance", "href": f"{root}/conformance", "type": "application/json"},
            {"rel": "data", "href": f"{root}/collections", "type": "application/json"},
        ],
    }


def file_formats() -> dict[str, Any]:
    """`/file_formats`: what save_result writes."""
    raster, table = ["raster"], ["vector", "table"]
    options: dict[str, Any] = {"parameters": {}}
    return {
        "input": {},
        "output": {
            "netCDF": {"title": "Network Common Data Form", "gis_data_types": raster, **options},
            "GTiff": {
                "title": "GeoTiff (cloud-optimized), one file per time step",
                "gis_data_types": raster,
                **options,
            },
            "JSON": {"title": "JSON", "gis_data_types": table, **options},
            "CSV": {"title": "Comma Separated Values", "gis_data_types": table, **options},
        },
    }


def udf_runtimes() -> dict[str, Any]:
    """`/udf_runtimes`: run_udf runs Python in the executors, with what is installed there."""
    version = platform.python_version()
    libraries = {name: {"version": metadata.version(name)} for name in ("numpy", "xarray", "openeo")}
    return {
        "Python": {
            "title": "Python",
            "type": "language",
            "default": version,
            "versions": {version: {"libraries": libraries}},
        }
    }


def collection_summary(root: str, *, generated: bool) -> dict[str, Any]:
    """The collection without its cube, as `/collections` lists it."""
    origin = "Generated scenes: fields, forests, towns, water and clouds." if generated else "Scenes of a local folder."
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/datacube/v2.2.0/schema.json"],
        "id": COLLECTION,
        "title": "Sentinel-2 L2A (sandbox)",
        "description": f"Bottom of atmosphere reflectances x 10000 and scene classification, 10 m, UTM. {origin}",
        "license": "proprietary",
        "keywords": ["Sentinel-2", "L2A", "sandbox"],
        "providers": [{"name": "openEO sandbox", "roles": ["host", "processor"]}],
        "extent": {
            "spatial": {"bbox": [[-180, -80, 180, 84]]},
            "temporal": {"interval": [["2015-07-04T00:00:00Z", None]]},
        },
        "links": [{"rel": "self", "href": f"{root}/collections/{COLLECTION}", "type": "application/json"}],
    }


def collection(root: str, *, generated: bool) -> dict[str, Any]:
    """The full description of the collection."""
    bands = [_band(name) for name in BANDS]
    spatial: dict[str, Any] = {
        "type": "spatial",
        "reference_system": {"$schema": "https://proj.org/schemas/v0.2/projjson.schema.json"},
    }
    return {
        **collection_summary(root, generated=generated),
        "cube:dimensions": {
            "x": {**spatial, "axis": "x", "extent": [-180, 180], "step": 10, "reference_system": 4326},
            "y": {**spatial, "axis": "y", "extent": [-80, 84], "step": 10, "reference_system": 4326},
            "t": {"type": "temporal", "extent": ["2015-07-04T00:00:00Z", None]},
            "bands": {"type": "bands", "values": list(BANDS)},
        },
        "summaries": {
            "constellation": ["sentinel-2"],
            "instruments": ["msi"],
            "gsd": [10],
            "eo:cloud_cover": {"minimum": 0, "maximum": 100},
            "eo:bands": bands,
        },
        "item_assets": {
            name: {
                "title": name,
                "type": "image/tiff; application=geotiff",
                "roles": ["data"],
                "eo:bands": [_band(name)],
            }
            for name in BANDS
        },
    }


def _band(name: str) -> dict[str, Any]:
    common, wavelength = BANDS[name]
    optics = {"common_name": common, "center_wavelength": wavelength} if common else {}
    return {"name": name, **optics, "gsd": 10}
