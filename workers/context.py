"""What every step needs, once per process: store, limits, connections, campaign files, rows of tables."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaign import table as tables
from campaign.backends import Backend
from campaign.control import Controls
from campaign.errors import FleetError
from campaign.spec import Hooks, load_hooks
from campaign.store import CHUNK, TileStore
from workers.connection import FleetConnection, connect
from workers.failures import LoginFailed
from workers.limits import Limits
from workers.pauses import Pauses
from workers.rates import Rates

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from campaign.meta import CampaignMeta
    from campaign.settings import Settings
    from campaign.tile import Tile

_CHUNKS_KEPT = 8
_Access = tuple[tuple[Any, ...], Hooks | None]
"""What a connection depends on."""

_SECONDS_REFUSED = 30.0


class Context:
    """The surroundings of the steps in one worker process; threads share it."""

    def __init__(self, settings: Settings) -> None:
        self.store = TileStore.connect(settings.redis_url, settings.namespace)
        self.tick = settings.tick
        """Seconds between two ticks of the fleet's clock."""
        self.controls = Controls(self.store)
        self.limits = Limits(self.store, settings.lease)
        self.pauses = Pauses(self.store)
        self.rates = Rates(self.store)
        self._connections: dict[_Access, FleetConnection] = {}
        self._refusals: dict[_Access, tuple[float, LoginFailed]] = {}
        self._hooks: dict[tuple[str, str], Hooks] = {}
        self._lock = threading.Lock()
        self._connecting: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._chunk = lru_cache(maxsize=_CHUNKS_KEPT)(self._read_chunk)

    def meta(self, campaign: str) -> CampaignMeta:
        """What the store keeps of `campaign`.

        Raises:
            FleetError: it is gone.
        """
        meta = self.store.campaign(campaign)
        if meta is None:
            raise FleetError(f"campaign {campaign} is not in the store any more")
        return meta

    def hooks(self, meta: CampaignMeta) -> Hooks:
        """The user's functions; the campaign file is read once for each content that was enqueued."""
        version = (meta.path, meta.sha256)
        with self._lock:
            if version not in self._hooks:
                self._hooks[version] = load_hooks(Path(meta.path), meta.source)
            return self._hooks[version]

    def backend(self, name: str) -> Backend:
        """The settings of a back-end as the store has them now."""
        return Backend.from_store(self.store.backend_settings(name))

    def connection(self, name: str) -> FleetConnection:
        """The connection of this process to a back-end, logged in; a new one when its settings have changed."""
        kept = self.store.backend_settings(name)
        backend = Backend.from_store(kept)
        hooks = self._login_hooks(backend, kept)
        wanted = backend.access, hooks
        with self._lock:
            connecting = self._connecting[name]
        with connecting:  # one thread logs in, the others wait for it
            if wanted not in self._connections:
                self._connections[wanted] = self._connect(backend, hooks)
            return self._connections[wanted]

    def _login_hooks(self, backend: Backend, kept: Mapping[str, str]) -> Hooks | None:
        """The functions of the campaign file that logs in, where one does.

        Raises:
            LoginFailed: it is gone, or does not run here: that is the back-end's trouble, not that of a tile.
        """
        if backend.auth != "custom":
            return None
        try:
            return self.hooks(self.meta(kept.get("authenticated_by", "")))
        except FleetError as error:
            raise LoginFailed(f"back-end {backend.name}: cannot log in; {error}") from error

    def _connect(self, backend: Backend, hooks: Hooks | None) -> FleetConnection:
        """Log in; a refusal is remembered for a while, for back-ends lock out those who keep asking."""
        until, refusal = self._refusals.get((backend.access, hooks), (0.0, None))
        if refusal is not None and time.monotonic() < until:
            raise LoginFailed(str(refusal))
        try:
            return connect(backend, hooks, lambda: self.rates.wait(backend.name))
        except LoginFailed as error:
            self._refusals[backend.access, hooks] = (time.monotonic() + _SECONDS_REFUSED, error)
            raise

    def row(self, meta: CampaignMeta, tile: Tile) -> pd.Series[Any]:
        """The tile's row of the user's table, with the columns that the openEO client's job manager adds.

        `name` is the index of the table, `geometry` a shapely geometry where the table has one.
        """
        row = tables.row_at(self._chunk(meta.name, meta.digest, tile.order // CHUNK), tile.order % CHUNK)
        row["tile_id"] = tile.id
        row["id"] = tile.job_id or None
        row["backend_name"] = tile.backend
        row["status"] = tile.status.value
        return row

    def geometry(self, meta: CampaignMeta, tile: Tile) -> dict[str, Any] | None:
        """The tile's geometry as GeoJSON in EPSG:4326, None where the table has none."""
        chunk: Any = self._chunk(meta.name, meta.digest, tile.order // CHUNK)
        if getattr(chunk, "active_geometry_name", None) is None:
            return None
        position = tile.order % CHUNK
        geometries = chunk.geometry.iloc[position : position + 1]
        geometry = (geometries.to_crs(4326) if geometries.crs else geometries).iloc[0]
        return None if geometry is None or geometry.is_empty else dict(geometry.__geo_interface__)

    def _read_chunk(self, campaign: str, digest: str, number: int) -> pd.DataFrame:
        del digest  # part of the cache's key: another table, other rows
        return tables.decode(self.store.table_chunk(campaign, number * CHUNK))
