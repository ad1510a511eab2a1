"""The store: every fact about campaigns, tiles and back-ends, in Redis. `transition.lua` documents the keys."""

from __future__ import annotations

import json
import time
import uuid
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from campaign.adding import encoded, row
from campaign.backends import Backend
from campaign.control import Control, Controls
from campaign.errors import FleetError, NoRoom, TransitionLost
from campaign.meta import OF_A_PAUSE, BackendState, CampaignMeta
from campaign.redis_client import connect
from campaign.tile import TILE_FIELDS, Step, Tile, TileStatus, check_transition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from campaign.redis_client import Client

CHUNK = 1000
"""Tiles per round trip and rows per chunk of the table."""

ANYONE = "*"
"""As expected holder of a tile: whoever holds it."""

_NONE: Mapping[str, Any] = MappingProxyType({})

_NUMBERS = dict.fromkeys(("order", "rank", "attempt", "attempts_before", "tries", "escalation"), int) | dict.fromkeys(
    ("since", "submitted_at", "sent_at", "started_at", "finished_at", "published_at", "costs", "spent"), float
)


class TileStore:
    """Campaigns, tiles and back-ends of one fleet.

    Every method may raise `StoreUnavailable`.
    """

    def __init__(self, client: Client, namespace: str = "fleet") -> None:
        self.redis: Any = client  # redis-py types its answers as bytes or text; ours are bytes
        self.namespace = namespace
        self._transition = client.register_script(read_script("room.lua") + read_script("transition.lua"))
        self._hurry = client.register_script(read_script("hurry.lua"))
        self._add = client.register_script(read_script("room.lua") + read_script("add.lua"))

    @classmethod
    def connect(cls, url: str, namespace: str = "fleet") -> TileStore:
        """A store on the Redis at `url`, which is asked for an answer.

        Raises:
            InvalidInput: `url` is no Redis URL.
            StoreUnavailable: no answer.
        """
        return cls(connect(url), namespace)

    def key(self, *parts: str) -> str:
        """The Redis key of `parts` in this fleet's namespace."""
        return ":".join((self.namespace, *parts))

    def now(self) -> float:
        """The time on Redis, the one clock that all machines of a fleet share, in seconds since the epoch."""
        seconds, micros = self.redis.time()
        return float(seconds + micros / 1e6)

    # Campaigns

    def put_campaign(self, meta: CampaignMeta) -> None:
        """Write what is kept of a campaign; a second time replaces it."""
        pipe = self.redis.pipeline()
        pipe.hset(self.key("c", meta.name, "meta"), mapping=meta.to_store())
        pipe.sadd(self.key("campaigns"), meta.name)
        pipe.execute()

    def campaign(self, name: str) -> CampaignMeta | None:
        """What is kept of a campaign, None when there is none of that name."""
        kept = _decoded(self.redis.hgetall(self.key("c", name, "meta")))
        return CampaignMeta.from_store(kept) if kept else None

    def campaigns(self) -> list[str]:
        """Names of all campaigns, sorted."""
        return sorted(name.decode() for name in self.redis.smembers(self.key("campaigns")))

    def control(self, campaign: str) -> Control:
        """What holds a campaign back, and what it has spent."""
        return Controls(self).get(campaign)

    def put_table(self, campaign: str, chunks: Iterable[bytes]) -> None:
        """Keep the user's table in chunks of `CHUNK` rows."""
        for number, chunk in enumerate(chunks):
            self.redis.hset(self.key("c", campaign, "table"), str(number), chunk)

    def table_chunk(self, campaign: str, order: int) -> bytes:
        """The chunk of the table that has the row at position `order`.

        Raises:
            FleetError: there is none.
        """
        chunk: bytes | None = self.redis.hget(self.key("c", campaign, "table"), str(order // CHUNK))
        if chunk is None:
            raise FleetError(f"the table of {campaign} has no row {order}; enqueue it again")
        return chunk

    def table_chunks(self, campaign: str) -> Iterator[bytes]:
        """All chunks of the table, in its order."""
        for number in range(self.redis.hlen(self.key("c", campaign, "table"))):
            yield self.table_chunk(campaign, number * CHUNK)

    def add_tiles(
        self, tiles: Sequence[Tile], backends: Sequence[str], history: Mapping[str, Sequence[Mapping[str, Any]]] = _NONE
    ) -> int:
        """Add those `tiles` of one campaign that are not there yet, each where its status belongs.

        Args:
            tiles: those that are not started wait for room.
            backends: the campaign's.
            history: id of a tile -> what failed for it before.

        Returns:
            How many were new.
        """
        added = 0
        for start in range(0, len(tiles), CHUNK):
            rows = [row(tile, backends, history.get(tile.id, ())) for tile in tiles[start : start + CHUNK]]
            added += self._add(args=[self.namespace, tiles[0].campaign, json.dumps(rows)])
        return added

    def adopt(self, before: Tile, after: Tile) -> bool:
        """Give a tile a job that nobody knew of; whether it was still as `before`, without a job and held by nobody."""
        told = row(after, (), instead=before)
        return bool(self._add(args=[self.namespace, after.campaign, json.dumps([told])]))

    def catalog_state(self, campaign: str) -> dict[str, Any]:
        """What the catalog stands for.

        Returns:
            How many tiles were `published` when it was last brought up to date; when that was asked for (`asked_at`)
            and for how many tiles (`asked_for`); how many `errors` in a row there were, and the last `error`.
        """
        raw = _decoded(self.redis.hgetall(self.key("c", campaign, "catalog")))
        numbers = {name: float(raw.get(name, 0)) for name in ("published", "asked_at", "asked_for", "errors")}
        return {**numbers, "error": raw.get("error", "")}

    def put_catalog_state(self, campaign: str, **fields: float | str) -> None:
        """Keep some of what `catalog_state` tells."""
        self.redis.hset(self.key("c", campaign, "catalog"), mapping=dict(fields))

    def tick(self) -> None:
        """Note that the fleet's clock ticked now."""
        self.redis.set(self.key("ticked"), self.now())

    def ticked_at(self) -> float:
        """When the fleet's clock ticked last, seconds since the epoch; 0 if it never did."""
        return float(self.redis.get(self.key("ticked")) or 0)

    # Tiles

    def get(self, campaign: str, tile_id: str) -> Tile | None:
        """One tile, None when there is none."""
        return self.get_many(campaign, [tile_id])[0]

    def get_many(self, campaign: str, tile_ids: Sequence[str]) -> list[Tile | None]:
        """Several tiles in one round trip, in the order asked for."""
        pipe = self.redis.pipeline(transaction=False)
        for tile_id in tile_ids:
            pipe.hgetall(self.key("c", campaign, "t", tile_id))
        return [_tile(campaign, tile_id, _decoded(raw)) for tile_id, raw in zip(tile_ids, pipe.execute(), strict=True)]

    def tile_ids(self, campaign: str, status: TileStatus, limit: int | None = None) -> list[str]:
        """Ids of the tiles in `status`, in the order of the table."""
        end = -1 if limit is None else limit - 1
        return [raw.decode() for raw in self.redis.zrange(self.key("c", campaign, "s", status), 0, end)]

    def tiles(self, campaign: str, status: TileStatus | None = None) -> Iterator[Tile]:
        """All tiles (in `status`), those of one status in the order of the table."""
        for wanted in TileStatus if status is None else (status,):
            ids = self.tile_ids(campaign, wanted)
            for start in range(0, len(ids), CHUNK):
                found = self.get_many(campaign, ids[start : start + CHUNK])
                yield from (tile for tile in found if tile is not None and tile.status is wanted)

    def counts(self, campaign: str) -> dict[TileStatus, int]:
        """How many tiles are in each status, zeros left out."""
        pipe = self.redis.pipeline(transaction=False)
        for status in TileStatus:
            pipe.zcard(self.key("c", campaign, "s", status))
        return {status: count for status, count in zip(TileStatus, pipe.execute(), strict=True) if count}

    def transition(  # noqa: PLR0913  (the words of the compare-and-set)
        self,
        tile: Tile,
        to: TileStatus,
        *,
        anyone: bool = False,
        holder: str = "",
        due: float | None = None,
        room: str = "keep",
        backends: Sequence[str] = (),
        failure: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Tile:
        """Move `tile` from the status and attempt it was read with to `to`, or fail without a trace.

        Args:
            tile: the tile as `claim` or `get` returned it.
            to: its next status; the present one to set fields.
            anyone: move it whoever holds it; default: it must be held as `tile` says.
            holder: token of who holds it afterwards.
            due: seconds until somebody has to look at it again, None for never.
            room: keep, take, free, wait, start, started or ready (see `transition.lua`).
            backends: candidates for take and wait.
            failure: goes into the history of the tile with the move.
            changes: fields of the tile to set; None and "" remove one.

        Returns:
            The tile as it is now; with `room="start"` nobody holds it if it has to wait for its start.

        Raises:
            IllegalTransition: `TRANSITIONS` does not have it.
            TransitionLost: it is in another status by now, or somebody else holds it.
            NoRoom: no back-end has room; it waits.
        """
        if to is not tile.status:
            check_transition(tile.status, to)
        changes = {name: value for name, value in changes.items() if getattr(tile, name) != value}
        expected = ANYONE if anyone else tile.holder
        arguments: list[Any] = [self.namespace, tile.campaign, tile.id, tile.status, to, expected, tile.attempt]
        arguments += [holder, "" if due is None else due, room, json.dumps(list(backends))]
        arguments += [uuid.uuid4().hex[:12], _entry(tile, failure) if failure else ""]
        for name, value in changes.items():
            arguments += [name, encoded(value)]
        answer = self._transition(keys=[self.key("c", tile.campaign, "t", tile.id)], args=arguments)
        outcome = answer[0].decode()
        if outcome == "full":
            raise NoRoom(f"{tile.key} waits for room on {', '.join(backends)}")
        if outcome != "ok":
            now = answer[1].decode() if len(answer) > 1 else outcome
            raise TransitionLost(f"{tile.key}: {tile.status} -> {to} came too late, it is {now}")
        if room == "take":
            changes["backend"] = answer[2].decode()
        if to is not tile.status:
            changes["since"] = float(answer[1])
        return tile.evolve(status=to, holder=answer[3].decode(), **changes)

    def claim(self, tile: Tile, lease: float, to: TileStatus | None = None, **words: Any) -> Tile:
        """Take hold of a tile that nobody holds, or whose holder let its lease of `lease` seconds end.

        Raises:
            TransitionLost: somebody holds it, or it moved on.
            NoRoom: with `room="take"`, as `transition`.
        """
        free = tile.evolve(holder="")
        words |= {"holder": uuid.uuid4().hex, "due": lease, "tries": tile.tries + 1}
        return self.transition(free, to or tile.status, **words)

    def history(self, campaign: str, tile_id: str) -> list[dict[str, Any]]:
        """What failed for a tile so far, oldest first."""
        return [json.loads(raw) for raw in self.redis.lrange(self.key("c", campaign, "history", tile_id), 0, -1)]

    # Back-ends

    def put_backend(self, name: str, fields: Mapping[str, str | int | float]) -> None:
        """Write the settings of a back-end; its pause and what is running there stay."""
        pipe = self.redis.pipeline()
        pipe.hdel(self.key("b", name), *Backend.model_fields)
        pipe.hset(self.key("b", name), mapping=dict(fields))
        pipe.sadd(self.key("backends"), name)
        pipe.execute()

    def change_backend(self, name: str, changes: Mapping[str, str | float | None]) -> None:
        """Change some fields of a back-end; None removes one."""
        pipe = self.redis.pipeline()
        for field, value in changes.items():
            if value is None:
                pipe.hdel(self.key("b", name), field)
            else:
                pipe.hset(self.key("b", name), field, value)
        pipe.execute()

    def clear_pause(self, name: str) -> None:
        """End the pause of a back-end and forget what led to it: the user has mended it. What waited for that is due."""
        self.redis.hdel(self.key("b", name), *OF_A_PAUSE, "trouble")
        waiting = self.tiles_on(name)
        for campaign in self.campaigns():
            waiting += [tile for tile in self.tiles(campaign, TileStatus.FINISHED) if tile.backend == name]
        if waiting:
            self._hurry(args=[self.namespace, *(tile.key for tile in waiting)])

    def backend_names(self) -> list[str]:
        """Names of all back-ends of the fleet, sorted."""
        return sorted(name.decode() for name in self.redis.smembers(self.key("backends")))

    def backend_settings(self, name: str) -> dict[str, str]:
        """All fields that are kept of a back-end."""
        return _decoded(self.redis.hgetall(self.key("b", name)))

    def backend(self, name: str) -> BackendState:
        """A back-end as the fleet sees it now."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.hgetall(self.key("b", name))
        for taken in ("slots", "started"):
            pipe.scard(self.key("b", name, taken))
        pipe.zcard(self.key("b", name, "ready"))
        pipe.smembers(self.key("b", name, "waiting"))
        raw, places, started, ready, campaigns = pipe.execute()
        for campaign in campaigns:
            pipe.zcard(self.key("b", name, "waiting", campaign.decode()))
        waiting = sum(pipe.execute()) if campaigns else 0
        return BackendState.from_store(
            name, _decoded(raw), places=places, started=started, ready=ready, waiting=waiting
        )

    def tiles_on(self, backend: str) -> list[Tile]:
        """The tiles that have a place on a back-end."""
        return self.tiles_of(sorted(key.decode() for key in self.redis.smembers(self.key("b", backend, "slots"))))

    def tiles_of(self, keys: Sequence[str]) -> list[Tile]:
        """The tiles of any campaigns with these keys (`campaign/tile`), in that order; those that are gone are left out."""
        pipe = self.redis.pipeline(transaction=False)
        names = [key.partition("/")[::2] for key in keys]
        for campaign, tile_id in names:
            pipe.hgetall(self.key("c", campaign, "t", tile_id))
        found = (
            _tile(campaign, tile_id, _decoded(raw))
            for (campaign, tile_id), raw in zip(names, pipe.execute() if names else [], strict=True)
        )
        return [tile for tile in found if tile is not None]

    def queue_length(self, step: Step) -> int:
        """How many messages wait in the queue of `step`."""
        return int(self.redis.llen(self.key("celery:") + step))


def read_script(name: str) -> str:
    """The text of a Lua script of this package."""
    return resources.files("campaign").joinpath(name).read_text("utf-8")


def _decoded(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in raw.items()}


def _entry(tile: Tile, failure: Mapping[str, Any]) -> str:
    where = {"attempt": tile.attempt, "job_id": tile.job_id, "backend": tile.backend, "at": time.time()}
    return json.dumps(where | dict(failure))


def _tile(campaign: str, tile_id: str, raw: Mapping[str, str]) -> Tile | None:
    if not raw:
        return None
    fields: dict[str, Any] = {name: raw[name] for name in TILE_FIELDS if name in raw}
    for name, number in _NUMBERS.items():
        if name in fields:
            fields[name] = number(fields[name])
    fields["pinned"] = fields.get("pinned") == "1"
    return Tile(campaign, tile_id, **fields | {"status": TileStatus(raw["status"])})
