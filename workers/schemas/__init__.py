"""Validation of STAC items without network: pystac's copies of the core schemas, the extensions' next to this file."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema_rs
from pystac.validation.local_validator import get_local_schema_cache

from campaign.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED = ("file-v2.1.0", "grid-v1.1.0", "processing-v1.2.0", "projection-v2.0.0", "raster-v2.0.0")
PROJJSON = "https://proj.org/schemas/v0.7/projjson.schema.json"
CORE = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"


class InvalidItem(FleetError):
    """An item does not keep to STAC or to an extension that it names; the message says where."""


def validate_item(item: Mapping[str, Any]) -> None:
    """Check an item against STAC 1.1.0 and those of its extensions that are shipped here; others are not looked at.

    Raises:
        InvalidItem: with the place and the first reason, for each schema that it breaks.
    """
    validators = _validators()
    wrong = []
    for uri in (CORE, *item.get("stac_extensions", ())):
        validator = validators.get(uri)
        error = next(validator.iter_errors(item), None) if validator and not validator.is_valid(item) else None
        if error is not None:
            where = "/".join(map(str, error.instance_path)) or "the item"
            wrong.append(f"{where}: {error.message} ({uri})")
    if wrong:
        raise InvalidItem(f"{item.get('id')!r} is not valid STAC: {'; '.join(wrong)}")


@lru_cache(maxsize=1)
def _validators() -> dict[str, Any]:
    """Compiled validators by schema URI; nothing is ever fetched."""
    core = get_local_schema_cache()
    registry = jsonschema_rs.Registry([*core.items(), (PROJJSON, {"type": "object"})])
    compiled = {CORE: jsonschema_rs.Draft7Validator(core[CORE], registry=registry, validate_formats=True)}
    for name in SHIPPED:
        schema = json.loads(files(__package__).joinpath(f"{name}.json").read_text("utf-8"))
        uri = schema["$id"].rstrip("#")
        compiled[uri] = jsonschema_rs.Draft7Validator(schema, registry=registry, validate_formats=True)
    return compiled
