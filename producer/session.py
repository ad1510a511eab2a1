"""The store that a command works on: the Redis of FLEET_REDIS_URL, or the embedded one of the working directory."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from campaign.errors import InvalidInput
from campaign.spec import load_campaign
from campaign.store import TileStore
from producer.embedded_redis import EmbeddedRedis, exists

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from campaign.meta import CampaignMeta
    from campaign.settings import Settings
    from campaign.spec import CampaignFile


@dataclass(frozen=True)
class Opened:
    """A store in use, and the Redis below it."""

    store: TileStore
    url: str
    """Of its Redis."""
    server: EmbeddedRedis | None = None

    def look_after(self) -> None:
        """See to it that an embedded Redis runs; one of FLEET_REDIS_URL is somebody else's business.

        Raises:
            StoreUnavailable: it does not start again.
        """
        if self.server is not None:
            self.server.look_after()


@contextmanager
def open_store(settings: Settings, *, create: bool = False, own: bool = False) -> Iterator[Opened]:
    """The store; the embedded Redis is started for the block if it does not run.

    Args:
        settings: the command's.
        create: whether an embedded Redis may be made where there was none.
        own: whether an embedded Redis has to be this command's own, to last as long as it does.

    Raises:
        InvalidInput: there is no campaign in this working directory.
        StoreUnavailable: Redis does not answer.
    """
    if settings.redis_url:
        yield Opened(TileStore.connect(settings.redis_url, settings.namespace), settings.redis_url)
        return
    if not create and not exists(settings.state_dir):
        raise InvalidInput(
            f"no campaign was ever run in {settings.workdir.resolve()}; "
            "go to where one was (or --workdir DIR), or set FLEET_REDIS_URL"
        )
    server = EmbeddedRedis(settings.state_dir, own=own)
    try:
        yield Opened(TileStore.connect(server.url, settings.namespace), server.url, server)
    finally:
        server.stop()


def known_campaign(store: TileStore, name: str) -> CampaignMeta:
    """What the store has of the campaign `name`.

    Raises:
        InvalidInput: nothing; says which campaigns there are.
    """
    meta = store.campaign(name)
    if meta is None:
        raise InvalidInput(f"no campaign {name!r}; there are: {', '.join(store.campaigns()) or 'none'}")
    return meta


def find_campaign(campaign: str, settings: Settings, urls: Mapping[str, str]) -> CampaignFile:
    """The campaign file that `campaign` names: its path, or the name of a campaign that was enqueued.

    Args:
        campaign: path or name; by its name, a campaign keeps the URLs of its back-ends.
        settings: the command's.
        urls: root URLs that replace those of the named back-ends.

    Raises:
        InvalidInput: neither; or the file is wrong.
    """
    path = Path(campaign)
    if path.suffix == ".py" or path.exists():
        path = path / "campaign.py" if path.is_dir() else path
        return load_campaign(path, settings.backends, urls)
    if not settings.redis_url and not exists(settings.state_dir):
        raise InvalidInput(f"{campaign}: neither a campaign file nor the name of an enqueued campaign")
    with open_store(settings) as opened:
        known = known_campaign(opened.store, campaign)
    return load_campaign(Path(known.path), settings.backends, urls, known.urls)
