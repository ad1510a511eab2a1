"""The contract between producer and workers: tiles, their life, the user's campaign file and the store that holds both."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from campaign.spec import Backend, Campaign, Publish

__all__ = ["Backend", "Campaign", "Publish"]


def __getattr__(name: str) -> Any:
    """What a campaign file imports, loaded when it does: the rest of this package needs the standard library only."""
    if name in __all__:
        from campaign import spec  # noqa: PLC0415

        return getattr(spec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
