"""FLEET_* environment settings, built in entry points only."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from campaign.errors import InvalidInput


class Settings(BaseSettings):
    """What a process needs to know of its surroundings; every field is an environment variable `FLEET_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="FLEET_", frozen=True, extra="ignore")

    redis_url: str = ""
    """Where the store and the queues are; empty: `run` starts an embedded Redis under the working directory."""
    namespace: str = Field(default="fleet", pattern=r"^[A-Za-z0-9_-]+$")
    """Prefix of every key: two fleets in one Redis do not see each other."""
    workdir: Path = Path()
    """Folder for all that is written: `.openeo-fleet/` (embedded Redis, logs) and relative outputs."""
    backends: Path | None = None
    """A `backends.toml`; default: the one beside the campaign file."""
    lease: float = Field(default=15.0, gt=0)
    """Seconds after which a tile held by a worker that no longer answers is taken over."""
    tick: float = Field(default=1.0, gt=0)
    """Seconds between two looks of the fleet at what is due."""

    @property
    def state_dir(self) -> Path:
        """Folder of the embedded Redis, its socket, the logs and the lock of `run`."""
        return self.workdir.resolve() / ".openeo-fleet"


def celery_url(redis_url: str) -> str:
    """The broker URL for a Redis URL: the same, but for Unix sockets, which Celery spells differently."""
    return redis_url.replace("unix://", "redis+socket://", 1) if redis_url.startswith("unix://") else redis_url


def read_settings(workdir: Path | None = None) -> Settings:
    """The settings of this process.

    Raises:
        InvalidInput: an environment variable is wrong; names it.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        problems = (f"FLEET_{str(p['loc'][0]).upper()}: {p['msg']}" for p in error.errors(include_input=False))
        raise InvalidInput("; ".join(problems)) from error
    return settings if workdir is None else settings.model_copy(update={"workdir": workdir})
