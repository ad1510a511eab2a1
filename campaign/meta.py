"""What the store keeps of campaigns and back-ends beside the tiles."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class CampaignMeta:
    """A campaign as it was enqueued."""

    name: str
    run: str
    """Drawn once for each campaign; part of the markers of its jobs, so that nobody else's are taken for them."""
    path: str
    """The campaign file."""
    source: str
    """Its text: what workers run, whatever becomes of the file."""
    sha256: str
    """Of the file."""
    urls: Mapping[str, str]
    """Back-ends in the order of the campaign file: name -> root URL."""
    output: str
    """Absolute folder of assets and catalog."""
    publish: Mapping[str, Any]
    """The fields of `Publish`."""
    max_attempts: int
    total: int
    """Number of tiles."""
    digest: str
    """Digest of the table."""
    created_at: float
    """Seconds since the epoch."""
    pilot: int = 0
    budget: float | None = None
    escalate: Sequence[Mapping[str, Any]] = ()
    rules: Sequence[Mapping[str, Any]] = ()
    """The fields of each `Rule`."""
    cancel_running_job_after: float | None = None
    cancel_queued_job_after: float | None = None
    stop_after: int = 5

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of its back-ends."""
        return tuple(self.urls)

    def to_store(self) -> dict[str, str]:
        """As the fields of a Redis hash: text as it is, everything else as JSON."""
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in asdict(self).items()}

    @classmethod
    def from_store(cls, kept: Mapping[str, str]) -> CampaignMeta:
        """What `to_store` wrote; fields that are not kept have their defaults, fields of other versions are left out."""
        read: dict[str, Any] = {
            field.name: kept[field.name] if field.type == "str" else json.loads(kept[field.name])
            for field in fields(cls)
            if field.name in kept
        }
        return cls(**read)


OF_A_PAUSE = (
    *("paused_until", "paused_reason", "paused_for", "outages", "full", "learned_jobs", "learned_until", "ramp_from"),
)
"""Fields of a back-end that a pause leaves."""


@dataclass(frozen=True)
class BackendState:
    """A back-end as the fleet sees it now."""

    name: str
    url: str
    parallel_jobs: int = 0
    queued_jobs: int = 0
    prepared_jobs: int = 0
    places: int = 0
    """Tiles that have a place: their job is being created, waits for its start, or is started."""
    started: int = 0
    """Those of them whose job is started, or about to be."""
    ready: int = 0
    """Those of them whose job waits for its start."""
    waiting: int = 0
    """Tiles that wait for room there."""
    paused_until: float = 0.0
    """Seconds since the epoch; 0 when it is not paused."""
    paused_reason: str = ""
    stopped: str = ""
    """Why no jobs are started there until the user says so; empty when they are."""
    trouble: str = ""
    """What went wrong at the last look at its jobs; empty when it went well."""
    learned_jobs: int | None = None
    """How many jobs it turned out to take, where that is less than it was said to."""
    requests_per_second: float | None = None
    submissions_per_minute: float | None = None

    @classmethod
    def from_store(cls, name: str, kept: Mapping[str, str], **taken: int) -> BackendState:
        """From the fields that the store keeps of it, and how much of its room is taken."""
        read: dict[str, Any] = {}
        for field in fields(cls):
            if field.name in kept:
                kind = field.type.removesuffix(" | None")
                read[field.name] = {"int": int, "float": float, "str": str}[kind](kept[field.name])
        if float(kept.get("learned_until", 0)) <= time.time():
            read.pop("learned_jobs", None)
        return cls(**read | taken | {"name": name, "url": kept.get("url", "")})

    @property
    def paused(self) -> bool:
        """Whether nothing is sent to it now."""
        return self.paused_until > time.time()

    @property
    def most(self) -> int:
        """How many jobs it may have started at once."""
        most = self.parallel_jobs + self.queued_jobs
        return most if self.learned_jobs is None else min(most, self.learned_jobs)
