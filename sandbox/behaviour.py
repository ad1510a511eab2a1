"""How the back-end behaves and which faults it shows: one frozen value, changeable while it runs.

Chances are shares from 0 to 1. Every draw comes from the seed and from how often that kind of draw was made before, so
a run with one client repeats itself.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sandbox.fields import changed, read_seconds_or_always
from sandbox.memory import read_size
from sandbox.script import Rule, read_script

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")


@dataclass(frozen=True)
class Behaviour:
    """The switches of the back-end; the defaults are a friendly back-end without faults."""

    seed: int = 0
    """Seed of every chance below."""
    latency: float = 0.0
    """Seconds added to each request of the API."""
    server_errors: float = 0.0
    """Share of requests answered with `server_error_status` before anything is done."""
    server_error_status: int = 503
    """500, 502, 503 or 504; the last three as a proxy sends them, without openEO's form. 0 draws one of the four for
    each of these requests."""
    rate_limit: float = 0.0
    """Requests per second allowed (bursts of as many, at least 1); more are answered 429. 0 is no limit."""
    retry_after: int = 1
    """Seconds in the Retry-After header of a 429 and of a 503."""
    lost_answers: float = 0.0
    """Share of `POST /jobs` whose job is created, but whose answer never arrives."""
    lost_starts: float = 0.0
    """Share of `POST /jobs/{id}/results` whose job starts, but whose answer never arrives."""
    down: float = field(default=0.0, metadata={"read": read_seconds_or_always})
    """Seconds, from when this is set, in which every connection is closed without an answer, as if the server were
    down; jobs go on meanwhile. `true` (or a negative number) lasts until it is set anew."""
    revoked: bool = False
    """No credentials are accepted: tokens, also new ones, and passwords are answered 403, OIDC clients 401
    invalid_client, as when a secret has expired. Signed URLs still hold."""
    parallel: int = 0
    """Running jobs of the whole back-end; 0 keeps what the program was started with."""
    max_active_jobs: int = 0
    """Queued and running jobs a user may have; starting more is answered 400 ConcurrentJobLimit. 0 is no limit."""
    created_jobs_limit: int = 0
    """Jobs in status created a user may have; making more is answered 400 JobLimit. 0 is no limit."""
    credits: float = -1.0
    """Credits of each user; starting a job when they are spent is answered 402 PaymentRequired. Negative is no limit."""
    queue_seconds: float = 0.0
    """Seconds a job stays queued at least."""
    job_seconds: float = 0.0
    """Seconds a job stays running at least (its slot is held, its executor is not)."""
    fast: bool = False
    """Jobs execute nothing: each gives one small file after `job_seconds`. For measuring clients."""
    failing_jobs: float = 0.0
    """Share of jobs that end in error with `failure`. A title with `fail:<CODE>` always does, with that code."""
    failure: str = "OOM"
    """OOM, NoDataAvailable, Internal or any other code."""
    needs_memory: str = field(default="", metadata={"read": read_size})
    """Memory a job needs, like `4G`: one whose job option `executor-memory` is less (2G if it has none) ends in error
    with OOM. Empty is no need."""
    script: tuple[Rule, ...] = field(default=(), metadata={"read": read_script})
    """What happens to the jobs whose titles match: a list of objects with the fields of `Rule`, or JSON text of one.
    What a rule says comes before the chances. Setting it begins it anew."""
    token_seconds: float = 0.0
    """Lifetime of new access tokens; 0 stands for a day."""
    single_use_refresh_tokens: bool = False
    """A refresh token holds for one refresh, whose answer has the next one."""
    provider_errors: float = 0.0
    """Share of token requests to the OpenID Connect provider that are answered 503."""
    signed_urls: bool = False
    """Items and assets are given as signed URLs that need no bearer."""
    url_seconds: float = 3600.0
    """Lifetime of signed URLs; an expired one is answered `expired_url_status`."""
    expired_url_status: int = 410
    """410 ResultLinkExpired, or 403 as object stores answer."""
    broken_downloads: float = 0.0
    """Share of asset downloads whose connection closes half-way."""
    short_downloads: float = 0.0
    """Share of asset downloads that end half-way and look complete: only the size or checksum tells."""
    ignore_limit: bool = False
    """`GET /jobs` gives every job on one page."""
    oldest_first: bool = False
    """`GET /jobs` lists the oldest job first."""
    items: str = "files"
    """Links of results: `files` (one item a file), `none`, `grouped` (STAC 1.1 items of several assets, ids with `:`),
    `feature` (the whole answer is a single Feature, as of API 1.0)."""
    failed_results_status: int = 424
    """Results of a failed job: 424 JobFailed, or 400 JobNotFinished."""
    file_sizes: bool = True
    """Assets carry `file:size`."""
    checksums: bool = False
    """Assets carry `file:checksum`."""
    estimates: bool = False
    """`GET /jobs/{id}/estimate` is there."""
    patch: bool = True
    """`PATCH /jobs/{id}` is there; otherwise it is answered 501."""
    unknown_job_logs: bool = False
    """Logs of an unknown job are a 200 with an error entry instead of a 404."""

    def changed(self, changes: dict[str, Any]) -> Behaviour:
        """A copy with some fields changed; text is read as the field's type.

        Raises:
            ValueError: for an unknown field or a value that does not fit.
        """
        return changed(self, changes, "behaviour")

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def read_behaviour(settings: Iterable[str]) -> Behaviour:
    """Behaviour from `key=value` and from paths of JSON files, later ones winning.

    Raises:
        ValueError: for what is neither.
    """
    behaviour = Behaviour()
    for setting in settings:
        key, equals, value = setting.partition("=")
        changes = {key: value} if equals else json.loads(Path(setting).read_text(encoding="utf-8"))
        behaviour = behaviour.changed(changes)
    return behaviour


class Dice:
    """Chances drawn from the seed: the n-th draw of a kind is always the same."""

    def __init__(self) -> None:
        self._drawn: Counter[str] = Counter()

    def throw(self, kind: str, share: float, seed: int) -> bool:
        """Whether this draw of a kind falls within a share."""
        if share <= 0:
            return False
        self._drawn[kind] += 1
        return unit(f"{seed}:{kind}:{self._drawn[kind]}") < share

    def pick(self, kind: str, choices: Sequence[T], seed: int) -> T:
        """One of several, each as likely."""
        self._drawn[kind] += 1
        return choices[int(unit(f"{seed}:{kind}:{self._drawn[kind]}") * len(choices))]


def unit(text: str) -> float:
    """A number in [0, 1) from a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / float(1 << 56)
