"""orphans: jobs of a campaign compared with its tiles in the store. Plain Python.

A job that its tile does not know of is adopted where the tile has no other one, and is an orphan where it has.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaign.tile import NO_FAILURE, Step, Tile, TileStatus
from producer.rebuild import Job, choose, decide

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from producer.rebuild import Facts

_LACKS_A_JOB = frozenset({TileStatus.NOT_STARTED, TileStatus.SUBMITTING})


@dataclass(frozen=True)
class Adoption:
    """A tile that gets a job which it did not know of."""

    before: Tile
    after: Tile
    job: Job
    others: tuple[Job, ...] = ()
    """Orphans once it has."""


@dataclass(frozen=True)
class Compared:
    """What came of it."""

    adoptions: tuple[Adoption, ...]
    orphans: tuple[Job, ...]
    """Active jobs that no tile will ever own."""


def compare(tiles: Mapping[str, Tile | None], jobs: Sequence[Job], facts: Facts) -> Compared:
    """Tell jobs that tiles should adopt and jobs that nobody wants from all the others.

    Args:
        tiles: as they were read after the jobs were listed: id -> tile, None for one that the campaign does not have.
        jobs: all of this run of the campaign.
        facts: what else counts.
    """
    by_tile: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_tile[job.tile].append(job)
    adoptions, orphans = [], []
    for tile_id, its_jobs in by_tile.items():
        tile = tiles.get(tile_id)
        adoption = None if tile is None else _adoption(tile, its_jobs, facts)
        if adoption is not None:
            adoptions.append(adoption)
        else:
            orphans += [job for job in its_jobs if job.active and _is_orphan(tile, job)]
    return Compared(tuple(adoptions), tuple(orphans))


def _adoption(tile: Tile, jobs: Sequence[Job], facts: Facts) -> Adoption | None:
    """The tile with the best of its jobs that are not history, if it may have one."""
    never_sent = tile.status is TileStatus.FAILED and tile.failed_step == Step.SUBMIT
    if tile.job_id or tile.holder or (tile.status not in _LACKS_A_JOB and not never_sent):
        return None
    new = [job for job in jobs if job.good and job.attempt >= tile.attempt and not _is_rejected(tile, job)]
    job = choose(None, new)
    if not isinstance(job, Job):
        return None
    bare = Tile(tile.campaign, tile.id, order=tile.order, rank=tile.rank, pinned=tile.pinned, backend=tile.backend)
    decided = decide(bare, job, new, facts)
    kept = {name: getattr(tile, name) for name in ("attempts_before", "spent", "escalation", "avoid")}
    others = tuple(other for other in jobs if other.active and not other.is_same(job.id))
    return Adoption(tile, decided.evolve(**kept, **NO_FAILURE), job, others)


def _is_rejected(tile: Tile, job: Job) -> bool:
    """Whether a job is done and the user wanted another one after it."""
    return not job.active and job.attempt <= tile.attempts_before


def _is_orphan(tile: Tile | None, job: Job) -> bool:
    """Whether an active job is one that its tile has no use for, now and later."""
    if tile is None or job.attempt < tile.attempt:
        return tile is None or not job.is_same(tile.job_id)
    if tile.job_id:
        return not job.is_same(tile.job_id) and job.attempt == tile.attempt
    return not tile.holder and tile.status in {TileStatus.CANCELED, TileStatus.SKIPPED}
