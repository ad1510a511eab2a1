"""The table in and out: everything about the user's table can be had from here.

Importing this module does not import pandas: each name is fetched from its own module at its first use.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from campaign.table.check import check_table, tile_ids
    from campaign.table.codec import decode, digest, encode, row_at
    from campaign.table.files import export_table, read_table, write_file
    from campaign.table.status import STATUS_TO_MANAGER, with_status

__all__ = [
    "STATUS_TO_MANAGER",
    "check_table",
    "decode",
    "digest",
    "encode",
    "export_table",
    "read_table",
    "row_at",
    "tile_ids",
    "with_status",
    "write_file",
]

_HOME = MappingProxyType(
    {
        "STATUS_TO_MANAGER": "status",
        "check_table": "check",
        "decode": "codec",
        "digest": "codec",
        "encode": "codec",
        "export_table": "files",
        "read_table": "files",
        "row_at": "codec",
        "tile_ids": "check",
        "with_status": "status",
        "write_file": "files",
    }
)


def __getattr__(name: str) -> Any:
    """The name from its own module."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"campaign.table.{_HOME[name]}"), name)
