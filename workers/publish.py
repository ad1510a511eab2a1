"""publish: from items beside their assets to items in the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from campaign.errors import StoreUnavailable, TransitionLost
from campaign.spec import Publish
from campaign.tile import NO_FAILURE, Step, Tile, TileStatus
from workers import setbacks
from workers.collection import CollectionInfo
from workers.output import TileFolder
from workers.static_catalog import ITEMS_PER_SHARD, StaticCatalog

if TYPE_CHECKING:
    from campaign.message import Message
    from campaign.meta import CampaignMeta
    from workers.context import Context


def publish(context: Context, tile: Tile) -> list[Message]:
    """Put the tile's items into the catalog; the same again changes nothing."""
    held = setbacks.claim(context, tile, Step.PUBLISH)
    with context.limits.leases.tile(held):
        try:
            meta = context.meta(held.campaign)
            folder = TileFolder(meta, held)
            for item_id in held.items.split(","):
                catalog(meta).put(folder.read_item(item_id), held.order // ITEMS_PER_SHARD)
        except (TransitionLost, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001  (one bad tile stops one tile)
            setbacks.step_failed(context, held, Step.PUBLISH, setbacks.diagnose(context, held, error))
            return []
    context.store.transition(held, TileStatus.PUBLISHED, published_at=context.store.now(), **NO_FAILURE)
    return []


def catalog(meta: CampaignMeta) -> StaticCatalog:
    """The static catalog of a campaign's output folder, with the campaign's collection."""
    settings = Publish(**meta.publish)
    description = settings.description or f"Results of the openEO campaign {meta.name}."
    info = CollectionInfo(id=meta.name, title=settings.title, description=description, license=settings.license)
    return StaticCatalog(Path(meta.output) / "catalog", info)
