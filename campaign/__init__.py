"""The contract between producer and workers: tiles, their life, the user's campaign file and the store that holds both."""

from campaign.spec import Backend, Campaign

__all__ = ["Backend", "Campaign"]
