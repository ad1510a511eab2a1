"""Back-ends: where they are, how workers log in, and how much may be asked of them."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping  # noqa: TC003  (pydantic evaluates annotations)
from pathlib import Path  # noqa: TC003
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from campaign.errors import InvalidInput
from campaign.tile import NAME_PATTERN

Auth = Literal["none", "basic", "client_credentials", "refresh_token", "oidc", "custom"]
LIMITS = (
    "parallel_jobs",
    "queued_jobs",
    "prepared_jobs",
    "requests_per_second",
    "submissions_per_minute",
    "poll_interval",
)
"""Fields of a back-end that may be changed while campaigns run."""

Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN.pattern}$", max_length=64)]


class Backend(BaseModel):
    """An openEO back-end and how much may be asked of it; shared by all workers and campaigns of a fleet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    """What the `backend_name` column of a table and the names of environment variables say."""
    url: str
    """Root URL of its openEO API."""
    auth: Auth = "none"
    """How workers log in; user names and secrets come from the environment only. `oidc`: as the openEO client does, by
    its `OPENEO_AUTH_*` variables, else by the refresh token that `openeo-fleet login` left. `custom`: by the campaign
    file's `authenticate(connection, provider)`."""
    provider_id: str | None = None
    """OIDC provider, where the back-end has several."""
    parallel_jobs: int = Field(default=2, ge=1)
    """How many jobs of this fleet may run on it at once."""
    queued_jobs: int = Field(default=0, ge=0)
    """How many more are started, to wait in the back-end's own queue: it is never idle between two looks."""
    prepared_jobs: int = Field(default=2, ge=0)
    """How many more are created ahead and not started: a slot that gets free is filled at once."""
    requests_per_second: float | None = Field(default=None, gt=0)
    """How many requests all workers together may send; default: as many as it takes."""
    submissions_per_minute: float | None = Field(default=None, gt=0)
    """How many jobs all workers together may create; default: as many as there is room for."""
    poll_interval: float = Field(default=10.0, gt=0)
    """Shortest time between two looks at its job list, in seconds; while nothing moves they grow up to sixfold."""
    timeout: float = Field(default=120.0, gt=0)
    """How long one request may take, in seconds."""

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, url: str) -> str:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.username or parts.password:
            raise ValueError("credentials do not belong into the address; set them in the environment")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is not an http(s) address")
        return parts.geturl()

    def variable(self, what: str) -> str:
        """Name of the environment variable for `what`: `FLEET_<BACKEND>_<WHAT>`."""
        return f"FLEET_{re.sub('[^A-Z0-9]', '_', self.name.upper())}_{what}"

    def secret(self, what: str) -> str | None:
        """`what` (USERNAME, PASSWORD, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN) from the environment, else None."""
        return os.environ.get(self.variable(what)) or None

    @property
    def access(self) -> tuple[Any, ...]:
        """What a connection depends on: with the same, the same connection serves."""
        return self.name, self.url, self.auth, self.provider_id, self.timeout

    @classmethod
    def from_store(cls, kept: Mapping[str, str]) -> Self:
        """The back-end whose fields the store keeps as text, among others."""
        return cls.model_validate({name: kept[name] for name in cls.model_fields if kept.get(name)})


def read_backends(path: Path, *, required: bool = False) -> dict[str, Backend]:
    """The back-ends of a `backends.toml`, one table `[NAME]` each with the fields of `Backend`.

    Raises:
        InvalidInput: the file is `required` and missing, or wrong; names the back-end and the field.
    """
    if not path.exists():
        if required:
            raise InvalidInput(f"{path}: no such file; FLEET_BACKENDS names it")
        return {}
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: {error}") from error
    bare = sorted(name for name, table in tables.items() if not isinstance(table, dict))
    if bare:
        raise InvalidInput(f"{path}: {', '.join(bare)}: has to stand below the name of a back-end, [NAME]")
    return {name: make_backend(f"{path} [{name}]", {"name": name, **table}) for name, table in tables.items()}


def make_backend(where: str, fields: dict[str, Any]) -> Backend:
    """A back-end from the fields that `where` gives.

    Raises:
        InvalidInput: some are wrong; names them.
    """
    try:
        return Backend(**fields)
    except ValidationError as error:
        raise InvalidInput(f"{where}: {settings_problem(error)}") from error


def settings_problem(error: ValidationError) -> str:
    """What pydantic found, on one line: each setting with what is wrong about it."""
    problems = (
        ".".join(str(part) for part in problem["loc"] if part not in {"Backend", "str"}) + ": " + problem["msg"]
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    )
    return f"{error.title}: " + "; ".join(dict.fromkeys(problem.removeprefix(": ") for problem in problems))
