"""Which run of a campaign its jobs and results are of, where its Redis does not tell."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from campaign.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from campaign.record import Manifest, Record
    from producer.rebuild import Job


def which_run(
    campaign: str, record: Record | None, jobs: Iterable[Job], manifests: Iterable[Manifest], wanted: str = ""
) -> str:
    """The run to rebuild: the record's, or the one that all jobs and results are of, or the one that is `wanted`.

    Raises:
        InvalidInput: there is nothing of `campaign`, or of several runs, or not of the one that is wanted.
    """
    found = _candidates(jobs, manifests)
    if record is not None:
        if wanted not in {"", record.run}:
            raise InvalidInput(f"--run {wanted}: the record of campaign {campaign} says that it is run {record.run}")
        return record.run
    listed = "; ".join(f"{run} ({said})" for run, said in found.items()) or "none"
    if wanted:
        if wanted not in found:
            raise InvalidInput(f"--run {wanted}: campaign {campaign} has no jobs or results of it; there are: {listed}")
        return wanted
    if not found:
        raise InvalidInput(
            f"campaign {campaign}: there is nothing to recover: no record and no results in its output folder, and no "
            "jobs on its back-ends; `openeo-fleet run` begins it"
        )
    if len(found) > 1:
        raise InvalidInput(f"campaign {campaign}: there are jobs of several runs: {listed}; choose one with --run ID")
    return next(iter(found))


def _candidates(jobs: Iterable[Job], manifests: Iterable[Manifest]) -> dict[str, str]:
    """Runs, the one with most jobs first: what there is of each, and from when."""
    times: dict[str, list[float]] = defaultdict(list)
    results: dict[str, int] = defaultdict(int)
    for job in jobs:
        times[job.run].append(job.created)
    for manifest in manifests:
        results[manifest.run] += 1
    runs = sorted({*times, *results}, key=lambda run: (-len(times[run]), -results[run], run))
    return {run: f"{len(times[run])} jobs{_period(times[run])}, {results[run]} results" for run in runs}


def _period(times: Iterable[float]) -> str:
    known = [datetime.fromtimestamp(time, UTC) for time in times if time]
    if not known:
        return ""
    first, last = f"{min(known):%Y-%m-%d %H:%M}", f"{max(known):%Y-%m-%d %H:%M}"
    return f" of {first} UTC" if first == last else f" of {first} to {last} UTC"
