"""A tile and its life: statuses, the transitions between them, and the step that moves each one on."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from campaign.errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""What campaign names and tile ids are made of: safe in file names, STAC ids, URLs and Redis keys."""

_MARKER = re.compile(rf"\[fleet:({NAME_PATTERN.pattern})/({NAME_PATTERN.pattern})/([0-9]{{1,9}}) ([A-Za-z0-9]+)\]")


class TileStatus(StrEnum):
    """Where a tile is in its life; openEO's own job statuses are used verbatim while a job exists."""

    NOT_STARTED = "not_started"
    """In the table; waits for room on a back-end."""
    SUBMITTING = "submitting"
    """A worker has claimed it and is creating the job."""
    CREATED = "created"
    """The job exists on the back-end and is not started."""
    QUEUED = "queued"
    """The job is started and waits on the back-end."""
    RUNNING = "running"
    """The job runs on the back-end."""
    FINISHED = "finished"
    """The back-end is done; the results are not fetched yet."""
    POSTPROCESSED = "postprocessed"
    """The assets are in their final place and their STAC items are written."""
    PUBLISHED = "published"
    """The items are in the catalog: done."""
    FAILED = "failed"
    """Attempts used up or not worth another one; the tile says where and why."""
    CANCELED = "canceled"
    """Canceled by the user."""
    SKIPPED = "skipped"
    """The user's `start_job` returned None."""


class Step(StrEnum):
    """What moves a tile on: one word for the module, the task, the queue, the log action and the CLI column."""

    SUBMIT = "submit"
    TRACK = "track"
    POSTPROCESS = "postprocess"
    PUBLISH = "publish"


_S = TileStatus

TRANSITIONS: Mapping[TileStatus, frozenset[TileStatus]] = MappingProxyType(
    {
        _S.NOT_STARTED: frozenset({_S.SUBMITTING, _S.CANCELED}),
        _S.SUBMITTING: frozenset({_S.NOT_STARTED, _S.CREATED, _S.SKIPPED, _S.FAILED, _S.CANCELED}),
        _S.CREATED: frozenset({_S.QUEUED, _S.RUNNING, _S.FINISHED, _S.NOT_STARTED, _S.FAILED, _S.CANCELED}),
        _S.QUEUED: frozenset({_S.RUNNING, _S.FINISHED, _S.NOT_STARTED, _S.FAILED, _S.CANCELED}),
        _S.RUNNING: frozenset({_S.QUEUED, _S.FINISHED, _S.NOT_STARTED, _S.FAILED, _S.CANCELED}),
        _S.FINISHED: frozenset({_S.POSTPROCESSED, _S.FAILED, _S.CANCELED}),
        _S.POSTPROCESSED: frozenset({_S.PUBLISHED, _S.FAILED, _S.CANCELED}),
        _S.PUBLISHED: frozenset(),
        _S.FAILED: frozenset({_S.NOT_STARTED, _S.FINISHED, _S.POSTPROCESSED}),
        _S.CANCELED: frozenset({_S.NOT_STARTED, _S.FINISHED}),
        _S.SKIPPED: frozenset({_S.NOT_STARTED}),
    }
)
"""Every move a tile can make; whatever is not listed is a bug and raises `IllegalTransition`."""

NEXT_STEP: Mapping[TileStatus, Step] = MappingProxyType(
    {
        _S.NOT_STARTED: Step.SUBMIT,
        _S.SUBMITTING: Step.SUBMIT,
        _S.CREATED: Step.SUBMIT,
        _S.QUEUED: Step.TRACK,
        _S.RUNNING: Step.TRACK,
        _S.FINISHED: Step.POSTPROCESS,
        _S.POSTPROCESSED: Step.PUBLISH,
    }
)
"""The step that moves a tile on; a status without one waits for the user or for nothing."""

HOLDS_SLOT = frozenset({_S.SUBMITTING, _S.CREATED, _S.QUEUED, _S.RUNNING})
"""Statuses in which a tile takes room on its back-end."""

HAS_STARTED = frozenset({_S.QUEUED, _S.RUNNING})
"""Statuses in which its job is started on the back-end."""

TERMINAL = frozenset(_S) - frozenset(NEXT_STEP)
"""Statuses from which no worker moves a tile on."""

RETRY_FROM: Mapping[Step, TileStatus] = MappingProxyType(
    {
        Step.SUBMIT: _S.NOT_STARTED,
        Step.TRACK: _S.NOT_STARTED,
        Step.POSTPROCESS: _S.FINISHED,
        Step.PUBLISH: _S.POSTPROCESSED,
    }
)
"""The status a failed tile goes back to, by the step that failed: no second job when the first one is good."""


NO_FAILURE: Final[dict[str, Any]] = {"tries": 0, "failed_step": "", "error_class": "", "error": ""}
"""The fields of a tile whose last step went well."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One cell of the grid on its way from the table to the catalog."""

    campaign: str
    """Name of the campaign."""
    id: str
    """Stable identifier within the campaign."""
    status: TileStatus = TileStatus.NOT_STARTED
    order: int = 0
    """Position in the table, from 0."""
    rank: int | None = None
    """Position among the tiles that wait, from 0, where it is not that in the table."""
    attempt: int = 0
    """Number of the attempt to get a job for it done, from 1 once submitted."""
    attempts_before: int = 0
    """Attempts made before the user last asked for a retry; they do not count against the campaign's `max_attempts`."""
    tries: int = 0
    """How often a worker took hold of it for the present step; 0 again when that went well."""
    escalation: int = 0
    """How many of the campaign's `escalate` job options it has come to."""
    avoid: str = ""
    """Back-ends that failed for it, comma-separated: it tries others first."""
    backend: str = ""
    """Name of the back-end that has its job, or that it is pinned to."""
    pinned: bool = False
    """Whether the table names its back-end."""
    job_id: str = ""
    """The job on the back-end."""
    holder: str = ""
    """Token of the claim under which a worker holds it, if one does."""
    since: float = 0.0
    """When it came into its present status, seconds since the epoch."""
    submitted_at: float = 0.0
    """When the present attempt was claimed, seconds since the epoch."""
    sent_at: float = 0.0
    """When its job was last asked for, seconds since the epoch; 0 as long as it was not."""
    started_at: float = 0.0
    """When the job was started, seconds since the epoch."""
    finished_at: float = 0.0
    """When the job was seen finished, seconds since the epoch."""
    published_at: float = 0.0
    """When the items were published, seconds since the epoch."""
    costs: float | None = None
    """What the back-end charged for the present job, in its currency (credits)."""
    spent: float = 0.0
    """What the jobs of its earlier attempts were charged."""
    usage: str = ""
    """The back-end's usage metrics of the job, as JSON."""
    items: str = ""
    """Ids of the STAC items made from it, comma-separated."""
    failed_step: str = ""
    error_class: str = ""
    error: str = ""
    """Why it failed, or what last went wrong."""

    @property
    def key(self) -> str:
        """`campaign/tile`: unique within a fleet."""
        return f"{self.campaign}/{self.id}"

    @property
    def place(self) -> int:
        """Its position among the tiles that wait, from 0."""
        return self.order if self.rank is None else self.rank

    @property
    def next_step(self) -> Step | None:
        """The step that moves it on, or None."""
        return NEXT_STEP.get(self.status)

    def marker(self, run: str) -> str:
        """What its job's title carries, for the job to be found after a crash or a lost answer; `read_marker` reads it."""
        return f"[fleet:{self.campaign}/{self.id}/{self.attempt} {run}]"

    def candidates(self, backends: Sequence[str]) -> Sequence[str]:
        """Those of the campaign's `backends` that it may go to: the one it is pinned to, or those that did not fail for it.

        All of them when all did.
        """
        if self.pinned:
            return [self.backend]
        avoided = self.avoid.split(",")
        return [backend for backend in backends if backend not in avoided] or backends

    def evolve(self, **changes: Any) -> Tile:
        """A copy with `changes`."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Marker:
    """What the title of a job says of whose it is."""

    campaign: str
    tile: str
    """Id of the tile."""
    attempt: int
    run: str


def read_marker(title: str) -> Marker | None:
    """What `Tile.marker` wrote into a title, None where there is nothing of the kind; the last one counts."""
    found = _MARKER.findall(title)
    if not found:
        return None
    campaign, tile, attempt, run = found[-1]
    return Marker(campaign, tile, int(attempt), run)


def same_job(one: str, other: str) -> bool:
    """Whether two ids mean the same job: a back-end that lists another's jobs puts its name before their ids."""
    return one == other or bool(other and one.endswith(f"-{other}")) or bool(one and other.endswith(f"-{one}"))


def check_transition(source: TileStatus, target: TileStatus) -> None:
    """Raise unless `target` may follow `source`.

    Raises:
        IllegalTransition: it may not; a bug of ours.
    """
    if target not in TRANSITIONS[source]:
        raise IllegalTransition(f"{source.value} -> {target.value} is not in TRANSITIONS")


TILE_FIELDS = tuple(field.name for field in fields(Tile) if field.name not in {"campaign", "id"})
"""Names of the fields that the store keeps for each tile."""
