"""rebuild: where a tile of which the store knows nothing is in its life, from its results and its jobs. Plain Python.

Nothing is asked for twice: a tile goes back to its start only if it has no results and no job that lives or is done.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from campaign.failure import ELSEWHERE, FINAL, ErrorClass
from campaign.record import Manifest
from campaign.tile import Step, Tile, TileStatus, read_marker, same_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_BEST_FIRST = ("finished", "running", "queued", "created", "error", "canceled")

_AT_AN_END = frozenset({"error", "canceled"})

ACTIVE = frozenset({"created", "queued", "running"})
"""Statuses of jobs that may still cost something."""

_MAY_RUN = TileStatus.QUEUED
"""Where a tile is whose job has a status that openEO does not know: the tracker will tell."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job on a back-end whose title says that it is a tile's."""

    backend: str
    id: str
    status: str
    tile: str
    attempt: int
    run: str
    title: str = ""
    created: float = 0.0
    """Seconds since the epoch; 0 where the back-end does not say."""
    costs: float | None = None
    usage: str = ""
    """As JSON."""

    @property
    def active(self) -> bool:
        """Whether it may still cost something."""
        return self.status in ACTIVE

    @property
    def good(self) -> bool:
        """Whether it lives or is done well."""
        return self.status not in _AT_AN_END

    def is_same(self, job_id: str) -> bool:
        """Whether `job_id` means this job."""
        return same_job(self.id, job_id)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a job failed, and what it cost."""

    error_class: ErrorClass
    error: str
    costs: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is to be known beside a tile's own jobs."""

    max_attempts: int
    """The campaign's."""
    now: float
    """Seconds since the epoch."""
    backends: Sequence[str] = ()
    """The campaign's."""
    escalations: int = 0
    """How many job options it has for tiles that ran out of memory."""
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    """Id of a failed job -> why it failed."""


NO_REASON = Reason(ErrorClass.JOB, "the back-end gave no reason")


def read_jobs(listed: Mapping[str, Iterable[Mapping[str, Any]]], campaign: str) -> list[Job]:
    """The jobs that carry a marker of `campaign` among those that back-ends list (back-end -> jobs), each once."""
    found: dict[tuple[str, int, str], list[Job]] = defaultdict(list)
    for backend, jobs in listed.items():
        for job in jobs:
            marker = read_marker(str(job.get("title") or ""))
            if marker is None or marker.campaign != campaign:
                continue
            same = found[marker.tile, marker.attempt, marker.run]
            if any(other.backend != backend and other.is_same(str(job["id"])) for other in same):
                continue
            same.append(
                Job(
                    backend=backend,
                    id=str(job["id"]),
                    status=str(job.get("status")),
                    tile=marker.tile,
                    attempt=marker.attempt,
                    run=marker.run,
                    title=str(job["title"]),
                    created=float(job.get("created") or 0.0),
                    costs=None if job.get("costs") is None else float(job["costs"]),
                    usage=json.dumps(job["usage"]) if job.get("usage") else "",
                )
            )
    return [job for jobs in found.values() for job in jobs]


def choose(manifest: Manifest | None, jobs: Sequence[Job]) -> Manifest | Job | None:
    """What a tile owns: its results, or the one of its jobs that counts; None if it has neither.

    Args:
        manifest: of its results, where all of them are in place.
        jobs: all of this run of the campaign.
    """
    if manifest is not None:
        newer = [job for job in jobs if job.good and job.attempt > manifest.attempt]
        return _best(newer) or manifest
    best = _best(jobs)
    if best is not None and best.status == "error":
        return _best([job for job in jobs if job.good]) or best
    return best


def _best(jobs: Sequence[Job]) -> Job | None:
    """Of the newest attempt's jobs the one that is furthest; of equals the first that was created."""
    return min(jobs, key=lambda job: (-job.attempt, _rank(job), job.created, job.id), default=None)


def _rank(job: Job) -> int:
    status = job.status if job.status in _BEST_FIRST else _MAY_RUN.value
    return _BEST_FIRST.index(status)


def decide(tile: Tile, owned: Manifest | Job | None, jobs: Sequence[Job], facts: Facts) -> Tile:
    """The tile as it has to be in the store.

    Args:
        tile: as the table has it.
        owned: what `choose` found.
        jobs: all of the tile's in this run of the campaign.
        facts: what else counts.
    """
    if owned is None:
        return tile
    attempt = max(owned.attempt, *(job.attempt for job in jobs), 0)
    if isinstance(owned, Manifest):
        return _delivered(tile.evolve(attempt=attempt), owned)
    tile = tile.evolve(attempt=attempt, **_learned(tile, jobs, facts))
    has_job = tile.evolve(
        backend=owned.backend,
        job_id=owned.id,
        submitted_at=owned.created,
        sent_at=owned.created,
        costs=_costs(owned, facts),
        usage=owned.usage,
        spent=sum(_costs(job, facts) or 0.0 for job in jobs if job.id != owned.id),
    )
    if owned.status == "error":
        return _failed(tile, has_job, facts.reasons.get(owned.id, NO_REASON), facts.max_attempts)
    return _moved(has_job, owned, facts.now)


def _delivered(tile: Tile, manifest: Manifest) -> Tile:
    same = ("backend", "job_id", "costs", "spent", "usage", "finished_at")
    known = {name: getattr(manifest, name) for name in same}
    return tile.evolve(status=TileStatus.POSTPROCESSED, items=",".join(manifest.items), **known)


def _moved(tile: Tile, job: Job, now: float) -> Tile:
    """The tile where its job is, which is not an error."""
    if job.status == "created":
        return tile.evolve(status=TileStatus.CREATED)
    if job.status == "finished":
        return tile.evolve(status=TileStatus.FINISHED, started_at=job.created, finished_at=now)
    if job.status == "canceled":
        return tile.evolve(status=TileStatus.CANCELED, error="canceled on the back-end")
    status = TileStatus.RUNNING if job.status == "running" else _MAY_RUN
    return tile.evolve(status=status, started_at=job.created)


def _failed(tile: Tile, has_job: Tile, reason: Reason, max_attempts: int) -> Tile:
    """Another attempt if one is left and makes sense, else the end, as after any failed job."""
    why = {"error_class": reason.error_class.value, "error": reason.error}
    if reason.error_class in FINAL or has_job.attempt >= max_attempts:
        return has_job.evolve(status=TileStatus.FAILED, failed_step=Step.TRACK.value, **why)
    spent = has_job.spent + (has_job.costs or 0.0)
    return tile.evolve(spent=spent, **why)


def _learned(tile: Tile, jobs: Sequence[Job], facts: Facts) -> dict[str, Any]:
    """What failed jobs taught about where and how the next one has to run."""
    failed = [(job, facts.reasons.get(job.id, NO_REASON).error_class) for job in jobs if job.status == "error"]
    out_of_memory = sum(error_class is ErrorClass.RESOURCES for _, error_class in failed)
    avoided: set[str] = set()
    for job, error_class in sorted(failed, key=lambda one: (one[0].attempt, one[0].id)):
        others = avoided | {job.backend}
        if error_class in ELSEWHERE and not tile.pinned and not others >= set(facts.backends):
            avoided = others
    return {"escalation": min(out_of_memory, facts.escalations), "avoid": ",".join(sorted(avoided))}


def _costs(job: Job, facts: Facts) -> float | None:
    reason = facts.reasons.get(job.id)
    return job.costs if job.costs is not None or reason is None else reason.costs
