"""What a campaign has come to, for people and for programs: status, the summary at its end, the table of tiles."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaign import table as tables
from campaign.errors import InvalidInput
from campaign.tile import TERMINAL, TileStatus
from producer.progress import held

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

    from campaign.control import Control
    from campaign.meta import CampaignMeta
    from campaign.store import TileStore
    from campaign.tile import Tile
    from producer.recover import Recovered

_LIMITS = ("parallel_jobs", "queued_jobs", "prepared_jobs", "requests_per_second", "submissions_per_minute")

_REASONS_SHOWN = 5

_NO_TICK_FOR = 15.0
"""Seconds without a tick after which nobody seems to work."""


def status(store: TileStore, meta: CampaignMeta) -> dict[str, Any]:
    """The campaign as one JSON object: `campaign`, `total`, `by_status`, `backends` and more."""
    counts = store.counts(meta.name)
    backends = {}
    for name in meta.backends:
        state = store.backend(name)
        backends[name] = {
            "url": meta.urls[name],
            "limits": {limit: getattr(state, limit) for limit in _LIMITS},
            "most_jobs": state.most,
            "started": state.started,
            "ahead": max(0, state.places - state.started),
            "jobs": jobs_on(store, name),
            "stopped": state.stopped or None,
            "waiting": state.waiting,
            "paused": state.paused_reason if state.paused else None,
            "trouble": state.trouble or None,
        }
    control = store.control(meta.name)
    return {
        "campaign": meta.name,
        "total": meta.total,
        "held": held(store, meta.name, counts) or None,
        "pilot": list(control.pilot) if control.pilot_upto is not None else None,
        "credits": {
            "spent": control.spent,
            "jobs_paid": control.jobs_paid,
            "per_job": control.cost_per_job,
            "budget": control.budget,
            "forecast": forecast(control, meta.total),
        },
        "by_status": {key.value: count for key, count in counts.items()},
        "backends": backends,
        "file": meta.path,
        "output": meta.output,
        "catalog": str(catalog_path(meta)),
        "last_tick": last_tick(store),
    }


def jobs_on(store: TileStore, backend: str) -> dict[str, int]:
    """How many tiles of all campaigns have a place on a back-end, by status."""
    found = Counter(tile.status for tile in store.tiles_on(backend))
    return {status.value: found[status] for status in TileStatus if found[status]}


def lines(store: TileStore, meta: CampaignMeta) -> Iterator[str]:
    """What the user should know of a campaign beside its counts, line by line."""
    counts = store.counts(meta.name)
    control = store.control(meta.name)
    for name in meta.backends:
        if jobs := jobs_on(store, name):
            yield f"{name} has " + ", ".join(f"{number} {status}" for status, number in jobs.items())
    if why := held(store, meta.name, counts):
        yield f"{why}; `openeo-fleet resume {meta.name}` lets it go on"
    elif control.pilot_upto is not None:
        yield f"pilot: the first {len(control.pilot)} tiles run alone until all are published"
    if spent := credits_line(control, meta.total):
        yield spent
    yield from _reasons(list(store.tiles(meta.name, TileStatus.FAILED)))
    if advice := standing_still(store, counts):
        yield advice


def forecast(control: Control, total: int) -> float | None:
    """What the whole campaign will cost (credits) if each of its tiles costs what a job did so far; None: nobody knows."""
    return None if control.cost_per_job is None else control.cost_per_job * total


def credits_line(control: Control, total: int) -> str:
    """What the campaign has cost and will cost; empty where no back-end tells."""
    about = forecast(control, total)
    if about is None and control.budget is None:
        return ""
    known = "charged" if control.jobs_paid else "estimated"
    parts = [f"{control.spent:g} credits spent"]
    parts += [] if control.budget is None else [f"budget {control.budget:g}"]
    parts += [] if about is None else [f"about {about:g} for all tiles ({control.cost_per_job:.3g} a job, as {known})"]
    return ", ".join(parts)


def last_tick(store: TileStore) -> float | None:
    """Seconds since the fleet's clock ticked, None if it never did."""
    ticked_at = store.ticked_at()
    return max(0.0, store.now() - ticked_at) if ticked_at else None


def standing_still(store: TileStore, counts: Mapping[TileStatus, int]) -> str:
    """What to do about tiles that are on their way while no worker is; empty when all is well."""
    seconds = last_tick(store)
    if all(status in TERMINAL for status in counts) or (seconds is not None and seconds <= _NO_TICK_FOR):
        return ""
    since = "yet" if seconds is None else f"for {seconds:.0f} s"
    return f"no worker has been seen {since}: `openeo-fleet run` goes on"


def catalog_path(meta: CampaignMeta) -> Path:
    """The entry of the static catalog."""
    return Path(meta.output) / "catalog" / "catalog.json"


def map_path(meta: CampaignMeta) -> Path:
    """Where `run` leaves the status map."""
    return Path(meta.output) / meta.name / "map.html"


def summary(store: TileStore, meta: CampaignMeta) -> Iterator[str]:
    """How the campaign ended, line by line."""
    counts = store.counts(meta.name)
    tiles = list(store.tiles(meta.name))
    yield f"{meta.name}: {counts.get(TileStatus.PUBLISHED, 0)} of {meta.total} tiles published"
    if why := held(store, meta.name, counts):
        yield f"  {why}; `openeo-fleet resume {meta.name}` lets the others go on"
    for other in (TileStatus.FAILED, TileStatus.CANCELED, TileStatus.SKIPPED):
        if counts.get(other):
            yield f"  {other}: {counts[other]}"
    yield from _reasons(tiles)
    ended = max((tile.since for tile in tiles), default=meta.created_at)
    yield f"  time: {timedelta(seconds=round(max(0.0, ended - meta.created_at)))}, costs: {_costs(tiles)}"
    yield f"  results: {Path(meta.output) / meta.name}"
    yield f"  catalog: {catalog_path(meta)}"
    if map_path(meta).exists():
        yield f"  map: {map_path(meta)}"


def _reasons(tiles: list[Tile]) -> Iterator[str]:
    failed = [tile for tile in tiles if tile.status is TileStatus.FAILED]
    reasons = Counter((tile.failed_step, tile.error_class, last_line(tile.error)) for tile in failed)
    for (step, error_class, reason), number in reasons.most_common(_REASONS_SHOWN):
        yield f"    {number} x {step}, {error_class}: {reason}"


def recovered(store: TileStore, done: Recovered, *, kept: bool) -> Iterator[str]:
    """What `recover` did, line by line.

    Args:
        store: the fleet's.
        done: what came of it.
        kept: whether orphans were left alone.
    """
    meta = done.meta
    counts = ", ".join(f"{count} {status}" for status, count in store.counts(meta.name).items())
    yield f"{meta.name}: run {meta.run} {'rebuilt' if done.rebuilt else 'is known'}, {meta.total} tiles: {counts}"
    yield f"{meta.name}: {done.adopted} jobs adopted, {done.sent} tasks sent; `run` or the workers go on"
    never_started = sum(job.status == "created" for job in done.orphans)
    ended = "left alone" if kept else f"{len(done.orphans) - never_started} canceled, {never_started} deleted"
    yield f"{meta.name}: {len(done.orphans)} orphans{f', {ended}' if done.orphans else ''}"
    for job in done.orphans:
        yield f"  {job.backend}\t{job.id}\t{job.status}\t{job.title}"
    for run, count in done.others.items():
        yield f"{meta.name}: {count} jobs of another run, {run}, are left alone"


def last_line(text: str) -> str:
    """The line of an error that says most: the last one."""
    return (text.strip().splitlines() or [""])[-1]


def _costs(tiles: list[Tile]) -> str:
    costs = [tile.costs for tile in tiles if tile.costs is not None]
    return f"{sum(costs):g} credits for {len(costs)} jobs" if costs else "none given by the back-end"


def table(store: TileStore, meta: CampaignMeta) -> pd.DataFrame:
    """The user's table with each tile's status, job and failure."""
    import pandas as pd  # noqa: PLC0415  (heavy; status does without)

    rows = pd.concat([tables.decode(chunk) for chunk in store.table_chunks(meta.name)])
    tiles = sorted(store.tiles(meta.name), key=lambda tile: tile.order)
    return tables.with_status(rows, tiles)


def one_tile(store: TileStore, meta: CampaignMeta, tile_id: str) -> str:
    """All that is known of a tile, as text.

    Raises:
        InvalidInput: there is none of that id.
    """
    tile = store.get(meta.name, tile_id)
    if tile is None:
        raise InvalidInput(f"campaign {meta.name} has no tile {tile_id!r}")
    known = [f"{name}: {value}" for name, value in asdict(tile).items() if value]
    failures = [
        f"attempt {entry['attempt']}, job {entry['job_id'] or '-'} on {entry['backend'] or '-'}, "
        f"{entry['step']} ({entry['error_class']}):\n  " + entry["error"].replace("\n", "\n  ")
        for entry in store.history(meta.name, tile_id)
    ]
    return "\n".join([*known, *failures])
