"""What the store keeps of campaigns and back-ends beside the tiles."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of its back-ends."""
        return tuple(self.urls)

    def to_store(self) -> dict[str, str | int | float]:
        """As the fields of a Redis hash."""
        return asdict(self) | {"urls": json.dumps(dict(self.urls)), "publish": json.dumps(dict(self.publish))}

    @classmethod
    def from_store(cls, kept: Mapping[str, str]) -> CampaignMeta:
        """What `to_store` wrote."""
        read: dict[str, Callable[[str], Any]] = {"urls": json.loads, "publish": json.loads, "created_at": float}
        read |= {"max_attempts": int, "total": int}
        return cls(**{name: read.get(name, str)(value) for name, value in kept.items()})


@dataclass(frozen=True)
class BackendState:
    """A back-end as the fleet sees it now."""

    name: str
    url: str
    parallel_jobs: int
    used: int
    """Slots taken."""
    waiting: int
    """Tiles that wait for room there."""
    paused_until: float
    """Seconds since the epoch; 0 when it is not paused."""
    paused_reason: str
    trouble: str
    """What went wrong at the last look at its jobs; empty when it went well."""

    @property
    def paused(self) -> bool:
        """Whether nothing is sent to it now."""
        return self.paused_until > time.time()
