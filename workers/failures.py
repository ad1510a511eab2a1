"""What went wrong, as a class that says what to do about it: one table, most special first."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions
from openeo.rest import OpenEoApiError, OpenEoApiPlainError, OpenEoClientException

from campaign.errors import FleetError, InvalidInput
from campaign.failure import ErrorClass
from campaign.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from campaign.failure import Rule


class LoginFailed(FleetError, OpenEoClientException):
    """Credentials are missing or refused; any request may say so, when its token has to be replaced."""


class LoginUnavailable(requests.ConnectionError):
    """The identity provider does not answer as it should; nothing is known of the credentials."""


class JobRefused(FleetError):
    """The user's `start_job` asked for what a tile cannot have."""


class AnswerLost(FleetError):
    """A job was asked for, and whether it exists is not known."""


class UserCodeRaised(FleetError):
    """A function of the campaign file raised; the cause is what it raised."""


class ResultsIncomplete(FleetError):
    """A back-end gave less than it announced."""


class Throttled(FleetError):
    """So many requests wait for a back-end already that this one would have to wait too long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many requests wait for the back-end; again in {seconds:.0f} s")
        self.seconds = seconds


class UnreadableResult(FleetError):
    """A result file is damaged or not what its name says; the message names it."""


class NoResults(FleetError):
    """A job finished and has nothing to give."""


@dataclass(frozen=True)
class Failure:
    """One failure, classified."""

    error_class: ErrorClass
    message: str
    """What the user reads, on as few lines as it takes."""
    retry_after: float | None = None
    """Seconds the back-end asked us to wait."""
    code: str = ""
    """The openEO error code, where there is one."""
    ours: bool = False
    """Whether we ourselves held the request back: nothing is wrong."""


CODES: dict[str, ErrorClass] = {
    "ConcurrentJobLimit": ErrorClass.CAPACITY,
    "TooManyRequests": ErrorClass.CAPACITY,
    "PaymentRequired": ErrorClass.PAYMENT,
    "AuthenticationRequired": ErrorClass.AUTH,
    "TokenInvalid": ErrorClass.AUTH,
    "CredentialsInvalid": ErrorClass.AUTH,
    "NoDataAvailable": ErrorClass.DATA,
    "CollectionNotFound": ErrorClass.BACKEND,
    "ProcessUnsupported": ErrorClass.BACKEND,
    "FeatureUnsupported": ErrorClass.BACKEND,
    "FormatUnsupported": ErrorClass.BACKEND,
    "ResultLinkExpired": ErrorClass.TRANSIENT,
    "JobNotFinished": ErrorClass.TRANSIENT,
    "JobNotFound": ErrorClass.JOB,
}
"""openEO error codes."""

JOB_LIMITS = frozenset({"ConcurrentJobLimit"})
"""Codes of a back-end that takes no more jobs at the moment: it answers everything else."""

STATUSES: dict[int, ErrorClass] = {
    401: ErrorClass.AUTH,
    402: ErrorClass.PAYMENT,
    408: ErrorClass.TRANSIENT,
    410: ErrorClass.TRANSIENT,
    425: ErrorClass.TRANSIENT,
    429: ErrorClass.CAPACITY,
    502: ErrorClass.OUTAGE,
    503: ErrorClass.OUTAGE,
    504: ErrorClass.OUTAGE,
}
"""HTTP statuses, where the code says nothing; other 5xx are transient, other 4xx the user's or transient. A 503 that says
when to come back is about capacity."""

EXCEPTIONS: tuple[tuple[type[BaseException], ErrorClass], ...] = (
    (LoginFailed, ErrorClass.AUTH),
    (LoginUnavailable, ErrorClass.OUTAGE),
    (InvalidInput, ErrorClass.USER_CODE),  # a campaign file that does not run on this machine
    (JobRefused, ErrorClass.USER_CODE),
    (AnswerLost, ErrorClass.TRANSIENT),
    (ResultsIncomplete, ErrorClass.TRANSIENT),
    (UnreadableResult, ErrorClass.TRANSIENT),  # another download often is good
    (NoResults, ErrorClass.DATA),
    (requests.exceptions.SSLError, ErrorClass.TRANSIENT),
    (requests.exceptions.RetryError, ErrorClass.TRANSIENT),
    (requests.ConnectionError, ErrorClass.OUTAGE),  # with ConnectTimeout
    (requests.RequestException, ErrorClass.TRANSIENT),
    (urllib3.exceptions.HTTPError, ErrorClass.TRANSIENT),
    (OSError, ErrorClass.TRANSIENT),  # a full disk, a network share that is away
)

LOG_PATTERNS: tuple[tuple[re.Pattern[str], ErrorClass], ...] = (
    (
        re.compile(r"NoDataAvailable|no data available|not find any products|missing bands?\b", re.IGNORECASE),
        ErrorClass.DATA,
    ),
    (
        re.compile(
            r"\bOOM|out ?of ?memory|too much memory|memoryoverhead|memory limit|MemoryError|cannot allocate memory"
            r"|exit (code|status):? ?137",
            re.IGNORECASE,
        ),
        ErrorClass.RESOURCES,
    ),
)
"""What the error logs of a failed job say."""

_NO_CONNECTION = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError")
"""What urllib3 calls a server that is not there, inside a ConnectionError of requests."""

_MAX_MESSAGE = 2000


def classify(error: BaseException, rules: Sequence[Rule] = ()) -> Failure:
    """The class of an exception by the user's `rules` and our tables, with a message that holds no secret."""
    failure = _by_tables(error)
    cause = error.__cause__ if isinstance(error, UserCodeRaised) else error
    status = getattr(cause, "http_status_code", None) or 0
    for rule in () if failure.ours else rules:
        if rule.fits(failure.message, status, failure.code):
            return replace(failure, error_class=rule.error_class)
    return failure


def is_away(error: Exception) -> bool:
    """Whether there was no server to connect to."""
    return any(word in str(error) for word in _NO_CONNECTION)


def _by_tables(error: BaseException) -> Failure:
    if isinstance(error, UserCodeRaised) and error.__cause__ is not None:
        cause = _throttled(error.__cause__) or error.__cause__
        return _known(cause, ErrorClass.USER_CODE) or Failure(ErrorClass.USER_CODE, _traceback(cause))
    return _known(error, ErrorClass.TRANSIENT) or Failure(ErrorClass.UNEXPECTED, _traceback(error))


def _throttled(error: BaseException | None) -> Throttled | None:
    """Our own rate limit below what user code made of it."""
    while error is not None and not isinstance(error, Throttled):
        error = error.__cause__ or error.__context__
    return error


def _known(error: BaseException, other_4xx: ErrorClass) -> Failure | None:
    """The class of what networks, back-ends and we ourselves raise on purpose."""
    if isinstance(error, Throttled):
        return Failure(ErrorClass.TRANSIENT, str(error), error.seconds, ours=True)
    if isinstance(error, (OpenEoApiError, OpenEoApiPlainError)):
        return _refused(error, other_4xx)
    message = clean(f"{type(error).__name__}: {error}")
    return next((Failure(found, message) for kind, found in EXCEPTIONS if isinstance(error, kind)), None)


def _refused(error: OpenEoApiPlainError, other_4xx: ErrorClass) -> Failure:
    """The class of an answer that is an error."""
    status, code = error.http_status_code or 0, getattr(error, "code", None) or ""
    retry_after = getattr(error, "retry_after", None)
    found = CODES.get(code, STATUSES.get(status))
    if found is None:
        found = ErrorClass.TRANSIENT if status >= requests.codes.server_error else other_4xx
    if status == requests.codes.service_unavailable and retry_after:
        found = ErrorClass.CAPACITY
    return Failure(found, clean(str(error)), retry_after, code)


def _traceback(error: BaseException) -> str:
    return clean("".join(traceback.format_exception(error)))


def classify_job(logs: str, rules: Sequence[Rule] = ()) -> Failure:
    """The class of a job that failed on its back-end, from its error logs."""
    message = clean(logs) or "the back-end gave no reason"
    for rule in rules:
        if rule.status is None and rule.fits(logs, code=rule.code or "") and (rule.code or "") in logs:
            return Failure(rule.error_class, message)
    for pattern, found in LOG_PATTERNS:
        if pattern.search(logs):
            return Failure(found, message)
    return Failure(ErrorClass.JOB, message)


_FRAME = re.compile(r'File ".*", line \d+')


def fingerprint(message: str) -> str:
    """What two failures with the same cause have in common: the line that raised, and what kind of exception it was."""
    frames = _FRAME.findall(message)
    kind = (message.strip().splitlines() or [""])[-1].partition(":")[0]
    return f"{frames[-1] if frames else ''} {kind}".strip()


def clean(text: str) -> str:
    """`text` without secrets and not too long; the end of a traceback says more than its beginning."""
    text = scrub(text.strip())
    return text if len(text) <= _MAX_MESSAGE else "... " + text[-_MAX_MESSAGE:]


def failure_fields(failure: Failure) -> dict[str, Any]:
    """The fields of a tile that say what went wrong."""
    return {"error_class": failure.error_class.value, "error": failure.message}
