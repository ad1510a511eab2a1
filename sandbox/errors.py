"""openEO's standard errors: code, HTTP status and message, and the one exception that carries them."""

from __future__ import annotations

import uuid

#: Code -> HTTP status, after the error list of the openEO API 1.2.
STATUSES: dict[str, int] = {
    "AuthenticationRequired": 401,
    "AuthenticationSchemeInvalid": 403,
    "BadRequest": 400,
    "CollectionNotFound": 404,
    "ConcurrentJobLimit": 400,
    "ContentTypeInvalid": 400,
    "CredentialsInvalid": 403,
    "FeatureUnsupported": 501,
    "FileNotFound": 404,
    "FormatUnsupported": 400,
    "Internal": 500,
    "InvalidVersion": 400,
    "JobFailed": 424,
    "JobLimit": 400,
    "JobLocked": 400,
    "JobNotFinished": 400,
    "JobNotFound": 404,
    "NoDataAvailable": 400,
    "NotFound": 404,
    "OOM": 500,
    "PaymentRequired": 402,
    "ProcessGraphComplexity": 400,
    "ProcessGraphMissing": 400,
    "ProcessParameterInvalid": 400,
    "ProcessParameterMissing": 400,
    "ProcessUnsupported": 400,
    "ResultLinkExpired": 410,
    "ServiceUnavailable": 503,
    "TokenInvalid": 403,
    "TooManyRequests": 429,
}


class OpenEOError(Exception):
    """An error that is answered in openEO's form, or that ends a job with its code in the logs.

    Attributes:
        code: one of openEO's error codes.
        status: HTTP status that goes with it.
        headers: extra headers of the answer, like Retry-After.
    """

    def __init__(
        self, code: str, message: str, *, status: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUSES.get(code, 500)
        self.headers = headers or {}

    def to_dict(self) -> dict[str, str]:
        """The body of the answer, with a fresh id as openeo-python-driver gives it."""
        return {"code": self.code, "id": f"r-{uuid.uuid4().hex}", "message": self.message}
