"""The store that a command works on: the Redis of FLEET_REDIS_URL, or the embedded one of the working directory."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from campaign.errors import InvalidInput
from campaign.store import CampaignMeta, TileStore
from producer.embedded_redis import embedded_redis, exists

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaign.settings import Settings


@contextmanager
def open_store(settings: Settings, *, create: bool = False, own: bool = False) -> Iterator[tuple[TileStore, str]]:
    """The store and the URL of its Redis; the embedded Redis is started for the block if it does not run.

    Args:
        settings: the command's.
        create: whether an embedded Redis may be made where there was none.
        own: whether an embedded Redis has to be this command's own, to last as long as it does.

    Raises:
        InvalidInput: there is no campaign in this working directory.
        StoreUnavailable: Redis does not answer.
    """
    if settings.redis_url:
        yield TileStore.connect(settings.redis_url, settings.namespace), settings.redis_url
        return
    if not create and not exists(settings.state_dir):
        raise InvalidInput(
            f"no campaign was ever run in {settings.workdir.resolve()}; "
            "go to where one was (or --workdir DIR), or set FLEET_REDIS_URL"
        )
    with embedded_redis(settings.state_dir, own=own) as url:
        yield TileStore.connect(url, settings.namespace), url


def known_campaign(store: TileStore, name: str) -> CampaignMeta:
    """What the store has of the campaign `name`.

    Raises:
        InvalidInput: nothing; says which campaigns there are.
    """
    meta = store.campaign(name)
    if meta is None:
        raise InvalidInput(f"no campaign {name!r}; there are: {', '.join(store.campaigns()) or 'none'}")
    return meta


def campaign_path(campaign: str, settings: Settings) -> Path:
    """The campaign file that `campaign` names: its path, or the name of a campaign that was enqueued.

    Raises:
        InvalidInput: neither.
    """
    path = Path(campaign)
    if path.suffix == ".py" or path.exists():
        return path / "campaign.py" if path.is_dir() else path
    if settings.redis_url or exists(settings.state_dir):
        with open_store(settings) as (store, _):
            return Path(known_campaign(store, campaign).path)
    raise InvalidInput(f"{campaign}: neither a campaign file nor the name of an enqueued campaign")
