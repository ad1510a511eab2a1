"""The contract between producer and workers: tiles, their life, the user's campaign file and the store that holds both."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from campaign.backends import Backend
    from campaign.failure import Rule
    from campaign.spec import Campaign, Publish

__all__ = ["Backend", "Campaign", "Publish", "Rule"]

_MODULES = {"Backend": "backends", "Rule": "failure", "Campaign": "spec", "Publish": "spec"}


def __getattr__(name: str) -> Any:
    """What a campaign file imports, loaded when it does: the rest of this package needs the standard library only."""
    if name in _MODULES:
        return getattr(import_module(f"campaign.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
