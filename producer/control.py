"""retry, cancel, pause, resume, limit: what a user does to tiles, by the same compare-and-set that workers use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaign.backends import LIMITS, Backend, make_backend
from campaign.control import Controls
from campaign.errors import FleetError, InvalidInput, TransitionLost
from campaign.failure import ErrorClass
from campaign.message import tile_message
from campaign.tile import NEXT_STEP, NO_FAILURE, RETRY_FROM, Step, Tile, TileStatus
from producer.ask import stop_jobs
from producer.enqueue import send

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from campaign.meta import CampaignMeta
    from campaign.store import TileStore
    from producer.ask import Files

STEPS = (Step.SUBMIT, Step.POSTPROCESS, Step.PUBLISH)
"""Steps that a user can send a tile back to."""


@dataclass(frozen=True)
class Choice:
    """Which tiles of a campaign a user means."""

    status: TileStatus
    ids: frozenset[str] = frozenset()
    """Only these, if any are named."""
    classes: frozenset[str] = frozenset()
    """Only those whose failure has one of these classes, if any are named."""
    failed_step: str | None = None
    """Only those that failed at this step."""

    def tiles(self, store: TileStore, meta: CampaignMeta) -> list[Tile]:
        """The tiles.

        Raises:
            InvalidInput: the campaign has no tile of one of the ids, or there is no such class.
        """
        known = {each.value for each in ErrorClass}
        if unknown := sorted(self.classes - known):
            raise InvalidInput(f"--class {unknown[0]}: there is no such class; there are {', '.join(sorted(known))}")
        ids = sorted(self.ids)
        missing = [name for name, tile in zip(ids, store.get_many(meta.name, ids), strict=True) if tile is None]
        if missing:
            raise InvalidInput(f"--id {missing[0]}: campaign {meta.name} has no such tile")
        return [tile for tile in store.tiles(meta.name, self.status) if self._means(tile)]

    def _means(self, tile: Tile) -> bool:
        named = not self.ids or tile.id in self.ids
        of_class = not self.classes or tile.error_class in self.classes
        return named and of_class and self.failed_step in {None, tile.failed_step}


def retry(store: TileStore, redis_url: str, meta: CampaignMeta, tiles: Iterable[Tile], step: Step | None = None) -> int:
    """Send tiles back, with all attempts before them; returns how many.

    A tile whose job is good does not get a second one: it goes back to its results.

    Args:
        store: the fleet's.
        redis_url: where its queues are.
        meta: their campaign.
        tiles: failed, canceled or skipped ones.
        step: one of `STEPS`, where a tile that never came so far stays as it is; default: the step that failed.
    """
    again = []
    for tile in tiles:
        status = _back_to(tile, step)
        try:
            again += [] if status is None else [_send_back(store, meta, tile, status)]
        except TransitionLost:
            continue
    backends = {tile.backend for tile in again if tile.backend}
    waiting = any(tile.status is TileStatus.NOT_STARTED and not tile.pinned for tile in again)
    for name in backends.union(meta.backends if waiting else ()):
        store.clear_pause(name)
    send(redis_url, store.namespace, [message for tile in again if (message := tile_message(tile))])
    return len(again)


def _back_to(tile: Tile, step: Step | None) -> TileStatus | None:
    """The status that a tile goes back to for `step`, None if it has not what that takes."""
    if step is None:
        if tile.status is TileStatus.FAILED and tile.failed_step:
            return RETRY_FROM[Step(tile.failed_step)]
        done = tile.status is TileStatus.CANCELED and tile.job_id and tile.finished_at
        return TileStatus.FINISHED if done else TileStatus.NOT_STARTED
    status = RETRY_FROM[step]
    has_results = bool(tile.job_id and tile.finished_at)
    able = {
        TileStatus.NOT_STARTED: True,
        TileStatus.FINISHED: has_results and tile.status is not TileStatus.SKIPPED,
        TileStatus.POSTPROCESSED: has_results and tile.status is TileStatus.FAILED and tile.failed_step == Step.PUBLISH,
    }
    return status if able[status] else None


def _send_back(store: TileStore, meta: CampaignMeta, tile: Tile, status: TileStatus) -> Tile:
    if status is not TileStatus.NOT_STARTED:
        return store.transition(tile, status, anyone=True, due=0, **NO_FAILURE)
    fresh = NO_FAILURE | {
        "job_id": "",
        "backend": tile.backend if tile.pinned else "",
        "attempts_before": tile.attempt,
        "finished_at": 0.0,
        "escalation": 0,
        "avoid": "",
    }
    return store.transition(tile, status, anyone=True, room="wait", backends=tile.candidates(meta.backends), **fresh)


def cancel(store: TileStore, meta: CampaignMeta) -> tuple[int, list[str]]:
    """Cancel all tiles that are not done, and the jobs of all canceled tiles on the back-ends.

    Returns:
        How many tiles were canceled, and what went wrong on the back-ends, a line each.
    """
    canceled = 0
    while moving := [tile for status in NEXT_STEP for tile in store.tiles(meta.name, status)]:
        canceled += sum(_cancel(store, tile) for tile in moving)
    left = [tile for tile in store.tiles(meta.name, TileStatus.CANCELED) if tile.job_id and not tile.finished_at]
    kept = {name: store.backend_settings(name) for name in {tile.backend for tile in left}}
    files = login_files(store, kept)  # all that the store knows is read before: `run` may end, and its Redis with it
    return canceled, [*_end_jobs(left, kept, files, started=True), *_end_jobs(left, kept, files, started=False)]


def _end_jobs(
    tiles: Iterable[Tile], kept: Mapping[str, Mapping[str, str]], files: Files, *, started: bool
) -> list[str]:
    """Cancel those jobs of `tiles` that are `started`, or delete those that never were; what went wrong, a line each."""
    jobs: dict[str, list[str]] = {}
    for tile in tiles:
        if bool(tile.started_at) is started:
            jobs.setdefault(tile.backend, []).append(tile.job_id)
    backends = [Backend.from_store(fields) for name, fields in kept.items() if name in jobs]
    try:
        return stop_jobs(backends, jobs, files, delete=not started) if jobs else []
    except FleetError as error:
        return [str(error)]


def pause(store: TileStore, meta: CampaignMeta) -> None:
    """Begin no more tiles of a campaign; what is begun goes on."""
    Controls(store).put(meta.name, paused="by the user")


def resume(store: TileStore, meta: CampaignMeta, budget: float | None = None) -> None:
    """Let a campaign go on; a pilot that runs still has to go well, one that did not is passed over.

    Args:
        store: the fleet's.
        meta: the campaign.
        budget: credits that may be spent in all; default: as many as before.

    Raises:
        InvalidInput: its budget is spent, and no larger one is given.
    """
    controls = Controls(store)
    if budget is not None:
        controls.put(meta.name, budget=budget)
    control = controls.get(meta.name)
    if not control.may_spend(0):
        raise InvalidInput(f"{control.holds()}: give a larger one with --budget")
    if control.pilot_failed and not control.paused:
        controls.put(meta.name, pilot_upto=None, pilot_failed=None)
    controls.put(meta.name, paused="")
    controls.forget_errors(meta.name)


def stop_backend(store: TileStore, name: str, *, stop: bool) -> None:
    """Start no more jobs on a back-end, or start some again.

    Raises:
        InvalidInput: the fleet has no such back-end.
    """
    _known_backend(store, name)
    if stop:
        store.change_backend(name, {"stopped": "by the user"})
    else:
        store.change_backend(name, {"stopped": None})
        store.clear_pause(name)


def limit_backend(store: TileStore, name: str, changes: Mapping[str, str]) -> Backend:
    """Change what a back-end allows while campaigns run on it; returns its settings now.

    Args:
        store: the fleet's.
        name: of the back-end.
        changes: fields of `LIMITS`; empty text is the default.

    Raises:
        InvalidInput: no such back-end or field, or a value that does not fit.
    """
    _known_backend(store, name)
    if unknown := sorted(set(changes) - set(LIMITS)):
        raise InvalidInput(f"{unknown[0]}: cannot be changed; what can: {', '.join(LIMITS)}")
    given: dict[str, str | None] = {key: value or None for key, value in changes.items()}
    kept = {key: value for key, value in (store.backend_settings(name) | given).items() if value is not None}
    fields = {key: kept[key] for key in Backend.model_fields if key in kept}
    changed = make_backend(f"back-end {name}", fields)
    store.change_backend(name, given | {"learned_jobs": None, "learned_until": None})
    return changed


def _known_backend(store: TileStore, name: str) -> None:
    if name not in store.backend_names():
        raise InvalidInput(f"no back-end {name!r}; there are: {', '.join(store.backend_names()) or 'none'}")


def login_files(store: TileStore, kept: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, str]]:
    """Path and text of the campaign files that log in to back-ends."""
    metas = {name: store.campaign(fields.get("authenticated_by", "")) for name, fields in kept.items()}
    return {name: (meta.path, meta.source) for name, meta in metas.items() if meta is not None}


def _cancel(store: TileStore, tile: Tile) -> bool:
    """Whether the tile is canceled now: not if a worker moved it meanwhile."""
    try:
        store.transition(tile, TileStatus.CANCELED, anyone=True, room="free")
    except TransitionLost:
        return False
    return True
