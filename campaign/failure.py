"""The classes of failures, and the user's own rules for what belongs to which."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator


class ErrorClass(StrEnum):
    """Who has to act on a failure, and how."""

    TRANSIENT = "transient"
    """Nobody: the same again after a while."""
    OUTAGE = "outage"
    """Nobody: the back-end does not answer; after some times in a row it is paused, longer and longer."""
    CAPACITY = "capacity"
    """Nobody: the back-end wants fewer requests or jobs; it is paused for a while."""
    AUTH = "auth"
    """The user: credentials are missing or refused; the back-end is paused, its tiles are kept."""
    PAYMENT = "payment"
    """The user: credits are used up; the back-end is paused, its tiles are kept."""
    DATA = "data"
    """Nobody: there is nothing to compute from."""
    RESOURCES = "resources"
    """Nobody: the job ran out of memory; another one gets the next of the campaign's `escalate` job options."""
    TIMEOUT = "timeout"
    """Nobody: the job waited or ran longer than the campaign allows, and was canceled: another attempt."""
    JOB = "job"
    """The back-end's job failed: another attempt, on another back-end where there is one, up to `max_attempts`."""
    BACKEND = "backend"
    """This back-end cannot do what is asked for: the same on another one, if there is one."""
    USER_CODE = "user_code"
    """The user: a function of the campaign file raised, or asked the back-end for what it does not have."""
    UNEXPECTED = "unexpected"
    """Whoever reads the traceback: a bug, ours or a library's, or a file that ends its worker."""


FINAL = frozenset({ErrorClass.DATA, ErrorClass.USER_CODE, ErrorClass.UNEXPECTED})
"""Classes of a failed job for which another one would fail as well."""

ELSEWHERE = frozenset({ErrorClass.JOB, ErrorClass.TIMEOUT, ErrorClass.BACKEND})
"""Classes of a failed job that may go better on another back-end."""


class Rule(BaseModel):
    """Which class a failure belongs to, where the built-in table does not know or is wrong.

    All conditions that are given have to hold. The first rule that fits wins, before the built-in table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    error_class: ErrorClass
    """What becomes of the tile."""
    status: int | None = None
    """HTTP status of a refused request."""
    code: str | None = None
    """openEO error code of a refused request."""
    match: str | None = None
    """Regular expression, searched in the message of an error or in the error logs of a failed job."""

    @field_validator("match")
    @classmethod
    def _is_pattern(cls, match: str | None) -> str | None:
        try:
            re.compile(match or "")
        except re.error as error:
            raise ValueError(f"{match!r} is no regular expression: {error}") from error
        return match

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.status is None and self.code is None and self.match is None:
            raise ValueError("says nothing about when it holds; give status, code or match")
        return self

    def fits(self, text: str, status: int = 0, code: str = "") -> bool:
        """Whether it holds for a failure."""
        if self.status not in {None, status} or self.code not in {None, code}:
            return False
        return self.match is None or re.search(self.match, text) is not None
