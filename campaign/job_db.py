"""The table in and out: everything about the user's table can be had from here.

Importing this module does not import pandas: each name is fetched from its own module at its first use.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from campaign.table_check import check_table, tile_ids
    from campaign.table_codec import decode, digest, encode, row_at
    from campaign.table_files import export_table, read_table, write_file
    from campaign.table_status import STATUS_TO_MANAGER, with_status

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
        "STATUS_TO_MANAGER": "table_status",
        "check_table": "table_check",
        "decode": "table_codec",
        "digest": "table_codec",
        "encode": "table_codec",
        "export_table": "table_files",
        "read_table": "table_files",
        "row_at": "table_codec",
        "tile_ids": "table_check",
        "with_status": "table_status",
        "write_file": "table_files",
    }
)


def __getattr__(name: str) -> Any:
    """The name from its own module."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"campaign.{_HOME[name]}"), name)
