"""recover: a campaign whose Redis is gone comes back from its jobs and results; jobs that no tile owns are ended."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from campaign import table as tables
from campaign.backends import Backend
from campaign.errors import FleetError, InvalidInput
from campaign.failure import ErrorClass
from campaign.message import tile_message
from campaign.record import Manifest, campaign_folder, read_manifest, read_record, remember
from campaign.store import CHUNK
from campaign.tile import Step, Tile
from producer.ask import list_jobs, stop_jobs, why_failed
from producer.check import check, login_files
from producer.control import login_files as login_files_of
from producer.enqueue import digest, meta_of, next_messages, output_folder, put_backends, put_control, send, tiles_of
from producer.order import in_order
from producer.orphans import compare
from producer.rebuild import NO_REASON, Facts, Job, Reason, choose, decide, read_jobs
from producer.resume import refuse_changes, refuse_other_record
from producer.runs import which_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from campaign.meta import CampaignMeta
    from campaign.spec import CampaignFile
    from campaign.store import TileStore
    from producer.ask import Files
    from producer.session import Opened

SETTLED_AFTER = 30.0
"""Seconds after which a job that a worker asked for before it died is in the list of its back-end, or never will be."""


@dataclass(frozen=True)
class Wishes:
    """What the user asked for."""

    run: str = ""
    """Run of the campaign; empty: the one that there is."""
    keep_orphans: bool = False
    """Whether orphans are left alone."""
    settle: float = SETTLED_AFTER
    """Seconds between the two looks at the job lists, where a tile has neither job nor results."""


@dataclass(frozen=True)
class Recovered:
    """What came of it."""

    meta: CampaignMeta
    rebuilt: bool
    """Whether the store did not know the campaign."""
    adopted: int
    """Tiles that have a job now which the store did not know of."""
    orphans: tuple[Job, ...]
    sent: int
    """Messages sent."""
    others: Mapping[str, int]
    """Other runs of the campaign and how many jobs of each there are; they are left alone."""
    problems: tuple[str, ...]
    """What went wrong with orphans, a line each."""


def recover(
    file: CampaignFile, opened: Opened, workdir: Path, wishes: Wishes, tell: Callable[[str], None]
) -> Recovered:
    """Rebuild the campaign of `file` if the store does not know it; then look for jobs that no tile owns.

    Args:
        file: the campaign file.
        opened: the store.
        workdir: folder that relative outputs are below.
        wishes: what the user asked for.
        tell: told what takes long.

    Raises:
        InvalidInput: something is wrong; nothing was changed.
        FleetError: a back-end does not tell which jobs it has; nothing was changed.
    """
    store = opened.store
    known = store.campaign(file.campaign.name)
    if known is None:
        back_ends = _BackEnds(file.backends, login_files(file))
        meta, jobs, adopted = _Rebuilding(file, store, workdir, wishes, tell).rebuild()
    else:
        back_ends = _known_back_ends(store, known)
        meta, jobs, adopted = known, _jobs_of(back_ends, known, wishes), 0
    mine = [job for job in jobs if job.run == meta.run]
    new, orphans = _reconcile(store, meta, mine)
    messages = (message for tile in new if (message := tile_message(tile)))
    sent = send(opened.url, store.namespace, next_messages(store, meta.name) if known is None else messages)
    problems = [] if wishes.keep_orphans else _end(back_ends, orphans)
    others = Counter(job.run for job in jobs if job.run != meta.run)
    return Recovered(meta, known is None, adopted + len(new), tuple(orphans), sent, others, tuple(problems))


@dataclass(frozen=True)
class _BackEnds:
    """Back-ends, and what it takes to log in to them."""

    all: Sequence[Backend]
    files: Files


class _Rebuilding:
    """From file, job lists and results to tiles in the store; the campaign itself is put there last."""

    def __init__(
        self, file: CampaignFile, store: TileStore, workdir: Path, wishes: Wishes, tell: Callable[[str], None]
    ) -> None:
        self.file, self.store, self.workdir, self.wishes, self.tell = file, store, workdir, wishes, tell
        self.name = file.campaign.name
        self.output = output_folder(file, workdir)
        self.files = login_files(file)

    def rebuild(self) -> tuple[CampaignMeta, list[Job], int]:
        """The campaign, all its jobs, and how many of them tiles own now."""
        record = read_record(self.output, self.name)
        checked = check(self.file, self.workdir)
        checked.refuse()
        if checked.table is None:
            raise InvalidInput(f"{self.file.path}: has no table")
        tiles = in_order(self.file, checked.table, tiles_of(self.file, checked.table))
        table_digest = digest(checked.table, tiles)
        if record is not None:
            refuse_other_record(self.file, record, table_digest)
        began = time.monotonic()
        jobs, manifests = self._jobs(), self._manifests(tiles)
        run = which_run(self.name, record, jobs, manifests.values(), self.wishes.run)
        manifests = {tile: manifest for tile, manifest in manifests.items() if manifest.run == run}
        traces = {*manifests, *_by_tile(jobs, run)}
        if any(tile.id not in traces for tile in tiles):
            self._settle(began)
            jobs = self._jobs()
        created_at = (
            record.created_at if record else min((job.created for job in jobs if job.created), default=time.time())
        )
        meta = meta_of(self.file, tiles, table_digest, self.workdir, run, created_at)
        refuse_changes(self.store, self.file, None, meta, tiles)
        return meta, jobs, self._put(meta, checked.table, tiles, manifests, _by_tile(jobs, run))

    def _jobs(self) -> list[Job]:
        return read_jobs(list_jobs(self.file.backends, self.name, self.files), self.name)

    def _manifests(self, tiles: Iterable[Tile]) -> dict[str, Manifest]:
        folder = campaign_folder(self.output, self.name)
        return {tile.id: found for tile in tiles if (found := read_manifest(folder / tile.id))}

    def _settle(self, began: float) -> None:
        """Wait until no job that was asked for can still be in the making."""
        seconds = self.wishes.settle - (time.monotonic() - began)
        if seconds > 0:
            self.tell(f"looking again in {seconds:.0f} s: a back-end may still be making a job that was asked for")
            time.sleep(seconds)

    def _put(
        self,
        meta: CampaignMeta,
        table: Any,
        tiles: Sequence[Tile],
        manifests: Mapping[str, Manifest],
        jobs: Mapping[str, Sequence[Job]],
    ) -> int:
        owned = {tile.id: choose(manifests.get(tile.id), jobs.get(tile.id, ())) for tile in tiles}
        failed = [
            job
            for tile in tiles
            for job in jobs.get(tile.id, ())
            if job.status == "error" and isinstance(owned[tile.id], Job)
        ]
        facts = Facts(
            meta.max_attempts, self.store.now(), meta.backends, len(meta.escalate), reasons=self._reasons(failed)
        )
        decided = [decide(tile, owned[tile.id], jobs.get(tile.id, ()), facts) for tile in tiles]
        remember(meta.output, meta)  # from here on nobody begins it anew
        put_backends(self.file, self.store)
        self.store.put_table(meta.name, tables.encode(table, CHUNK))
        put_control(self.store, meta, None, decided)
        self.store.add_tiles(decided, meta.backends, _history(failed, facts))
        self.store.put_campaign(meta)
        return sum(bool(tile.job_id) and isinstance(owned[tile.id], Job) for tile in decided)

    def _reasons(self, failed: Iterable[Job]) -> dict[str, Reason]:
        asked: dict[str, list[str]] = defaultdict(list)
        for job in failed:
            asked[job.backend].append(job.id)
        found = why_failed(self.file.backends, asked, self.file.campaign.rules, self.files) if asked else {}
        return {
            job_id: Reason(ErrorClass(told["error_class"]), told["error"], told["costs"])
            for reasons in found.values()
            for job_id, told in reasons.items()
        }


def _by_tile(jobs: Iterable[Job], run: str) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.run == run:
            found[job.tile].append(job)
    return found


def _history(failed: Iterable[Job], facts: Facts) -> dict[str, list[dict[str, Any]]]:
    """What a tile's history says of each job that failed: id of the tile -> entries, oldest first."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for job in sorted(failed, key=lambda job: (job.attempt, job.created)):
        reason = facts.reasons.get(job.id, NO_REASON)
        where = {"attempt": job.attempt, "job_id": job.id, "backend": job.backend, "at": job.created}
        why = {"step": Step.TRACK.value, "error_class": reason.error_class.value, "error": reason.error}
        found[job.tile].append(where | why | {"costs": reason.costs})
    return found


def _known_back_ends(store: TileStore, meta: CampaignMeta) -> _BackEnds:
    """Those of a campaign that the store knows, as it has them."""
    kept = {name: store.backend_settings(name) for name in meta.backends}
    return _BackEnds([Backend.from_store(fields) for fields in kept.values()], login_files_of(store, kept))


def _jobs_of(back_ends: _BackEnds, meta: CampaignMeta, wishes: Wishes) -> list[Job]:
    """The jobs of a campaign that the store knows."""
    if wishes.run not in {"", meta.run}:
        raise InvalidInput(f"--run {wishes.run}: the store knows campaign {meta.name} as run {meta.run}")
    return read_jobs(list_jobs(back_ends.all, meta.name, back_ends.files), meta.name)


def _reconcile(store: TileStore, meta: CampaignMeta, jobs: Sequence[Job]) -> tuple[list[Tile], list[Job]]:
    """Give jobs to tiles that lost theirs; returns those tiles, and the jobs that nobody wants."""
    ids = list(dict.fromkeys(job.tile for job in jobs))
    tiles: dict[str, Tile | None] = {}
    for start in range(0, len(ids), CHUNK):
        some = ids[start : start + CHUNK]
        tiles |= dict(zip(some, store.get_many(meta.name, some), strict=True))
    compared = compare(tiles, jobs, Facts(meta.max_attempts, store.now()))
    adopted, orphans = [], list(compared.orphans)
    for adoption in compared.adoptions:
        history = {entry["job_id"] for entry in store.history(meta.name, adoption.before.id)}
        if adoption.job.id not in history and store.adopt(adoption.before, adoption.after):
            adopted.append(adoption.after)
            orphans += adoption.others
    return adopted, orphans


def _end(back_ends: _BackEnds, orphans: Iterable[Job]) -> list[str]:
    """Cancel orphans, and delete those that never started; what went wrong, a line each."""
    problems = []
    for delete in (False, True):
        jobs: dict[str, list[str]] = defaultdict(list)
        for job in orphans:
            if (job.status == "created") is delete:
                jobs[job.backend].append(job.id)
        try:
            problems += stop_jobs(back_ends.all, jobs, back_ends.files, delete=delete) if jobs else []
        except FleetError as error:
            problems.append(str(error))
    return problems
