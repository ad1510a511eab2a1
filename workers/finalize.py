"""finalize: brings the catalog above the items up to date, now and then while a campaign runs and once it rests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign.tile import TERMINAL, TileStatus
from workers.publish import catalog

if TYPE_CHECKING:
    from workers.context import Context

EVERY = 20.0
"""Seconds between two times while items keep coming, and after which a request that came to nothing is made again."""

TILES_PER_SECOND = 1000
"""What is added to that for many tiles, so that most of a worker's time is left for publishing."""


def finalize(context: Context, campaign: str) -> None:
    """Build collection and shards from the items that are there, and remember how many tiles they stand for."""
    store = context.store
    published = store.counts(campaign).get(TileStatus.PUBLISHED, 0)
    try:
        catalog(context.meta(campaign)).finalize()
    except OSError as error:
        errors = store.catalog_state(campaign)["errors"] + 1
        store.put_catalog_state(campaign, errors=errors, error=f"the catalog cannot be written: {error}")
        raise
    store.put_catalog_state(campaign, published=published, errors=0, error="")


def is_stale(context: Context, campaign: str) -> bool:
    """Whether the catalog is behind and nobody was asked to see to it; the caller asks somebody now."""
    counts = context.store.counts(campaign)
    published = counts.get(TileStatus.PUBLISHED, 0)
    state = context.store.catalog_state(campaign)
    if published == state["published"]:
        return False
    now = context.store.now()
    new_at_rest = published != state["asked_for"] and all(status in TERMINAL for status in counts)
    if not new_at_rest and now - state["asked_at"] < EVERY + published / TILES_PER_SECOND:
        return False
    context.store.put_catalog_state(campaign, asked_at=now, asked_for=published)
    return True
