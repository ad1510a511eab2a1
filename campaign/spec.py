"""The user's campaign file: a Python module with `campaign = Campaign(...)` and plain functions found by name."""

from __future__ import annotations

import hashlib
import linecache
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence  # noqa: TC003  (pydantic evaluates annotations)
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from campaign.backends import Backend, Name, make_backend, read_backends, settings_problem
from campaign.errors import InvalidInput
from campaign.failure import Rule  # noqa: TC001  (pydantic evaluates annotations)

RESERVED_NAMES = frozenset({"catalog", "collection"})
"""Files and folders of these names are the catalog's own; upper and lower case are one on some file systems."""


class Publish(BaseModel):
    """Where items go and what their STAC collection says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Literal["static"] = "static"
    """A static catalog below the output location."""
    title: str | None = None
    description: str | None = None
    """Markdown; default: says which campaign the items come from."""
    license: str = "other"
    """SPDX identifier, or `other`."""


def _as_sequence(value: Any) -> Any:
    return [value] if isinstance(value, (str, Backend)) else value


class Campaign(BaseModel):
    """One workflow over every tile of a table."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: Name
    """What it is called in commands, file names, the catalog and the titles of its jobs."""
    table: Any
    """A (Geo)DataFrame, the path of one (CSV, Parquet, GeoParquet, GeoJSON, GeoPackage), or a function returning one."""
    backends: Annotated[Sequence[Backend | str], BeforeValidator(_as_sequence)] = Field(min_length=1)
    """Back-ends, or the names of some in `backends.toml`."""
    output: str = "results"
    """Folder for assets and catalog; a relative one is below the working directory."""
    publish: Publish = Publish()
    """Where the items go, and what their collection says."""
    max_attempts: int = Field(default=3, ge=1)
    """How many jobs one tile may cost before it fails."""
    priority: str | Callable[[Any], float] | None = None
    """Column with numbers, or a function of the row: tiles with larger ones come first; default: order of the table."""
    shuffle: bool = False
    """Whether tiles of equal priority come in random order (the same in each run) instead of the table's."""
    pilot: int = Field(default=0, ge=0)
    """How many tiles, the first, run alone; the others only when all of them are published."""
    budget: float | None = Field(default=None, gt=0)
    """Credits at which the campaign pauses."""
    escalate: Sequence[Mapping[str, Any]] = ()
    """Job options that a tile gets after its job ran out of memory: the first of these, then the second ..., then the last."""
    rules: Sequence[Rule] = ()
    """Classes of failures, before the built-in ones."""
    cancel_running_job_after: float | None = Field(default=None, gt=0)
    """Seconds after which a running job is canceled; its tile gets another attempt."""
    cancel_queued_job_after: float | None = Field(default=None, gt=0)
    """Seconds after which a job that waits in the back-end's queue is canceled; its tile gets another attempt."""
    stop_after: int = Field(default=5, ge=0)
    """How many of the first tiles may fail with the same exception of `start_job` before the campaign pauses; 0: never."""
    id_column: str | None = None
    """Column with the tiles' ids; default: `tile_id`, else the index, else the position."""

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name.lower() in RESERVED_NAMES:
            raise ValueError(f"{name!r} is a name that the STAC catalog has for itself; give the campaign another one")
        return name

    @field_validator("output")
    @classmethod
    def _is_folder(cls, output: str) -> str:
        if "://" in output and not output.startswith("file:///"):
            raise ValueError(f"{output!r}: has to be a folder, or file:///...")
        return output

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [backend if isinstance(backend, str) else backend.name for backend in self.backends]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"backends: {', '.join(doubled)} named more than once")
        return self


@dataclass(frozen=True)
class Hooks:
    """The user's functions of a campaign file."""

    start_job: Callable[..., Any]
    """Called by keyword with `row`, `connection`, `connection_provider` and `provider`; returns a job, or None."""
    authenticate: Callable[..., Any] | None = None
    """Called by keyword with `connection` and `provider` where a back-end's `auth` is `custom`; logs the connection in."""
    path: Path = Path()
    """The campaign file."""

    def where(self, error: BaseException) -> str:
        """What one of them raised, with the line of the campaign file."""
        return _where(self.path, error)


@dataclass(frozen=True)
class CampaignFile:
    """A campaign file that was read, all its back-ends resolved."""

    path: Path
    source: str
    """Its text."""
    campaign: Campaign
    backends: tuple[Backend, ...]
    hooks: Hooks
    moved: frozenset[str] = frozenset()
    """Names of the back-ends whose URL the user gave beside the file: they are there now, whatever is known of them."""

    @property
    def sha256(self) -> str:
        """Of its text."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def table_source(self) -> Any:
        """The campaign's table; the path of one is taken from the folder of the campaign file."""
        source = self.campaign.table
        return self.path.parent / source if isinstance(source, (str, Path)) else source

    def where(self, error: BaseException) -> str:
        """What the user's code raised, with the line of the campaign file."""
        return _where(self.path, error)


def load_campaign(
    path: Path,
    backends_file: Path | None = None,
    urls: Mapping[str, str] | None = None,
    urls_before: Mapping[str, str] | None = None,
) -> CampaignFile:
    """Read a campaign file.

    Args:
        path: the Python file.
        backends_file: a `backends.toml`; default: the one beside the campaign file, if there is one.
        urls: root URLs that replace those of the named back-ends.
        urls_before: root URLs that the campaign was enqueued with; for those of its back-ends that `urls` leaves out.

    Raises:
        InvalidInput: the file is missing, does not run, or what it says is wrong; names the setting.
    """
    if path.suffix != ".py":
        raise InvalidInput(f"{path}: is not a Python file: the name of a campaign file ends in .py")
    try:
        source = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read ({error}); give the path of a campaign file") from error
    module = _run(path.resolve(), source)
    campaign = getattr(module, "campaign", None)
    if not isinstance(campaign, Campaign):
        raise InvalidInput(f"{path}: has no campaign; add `campaign = Campaign(name=..., table=..., backends=[...])`")
    resolved = _resolve_backends(campaign, path, backends_file)
    before = {name: url for name, url in (urls_before or {}).items() if name in resolved}
    backends = _with_urls(resolved, before | dict(urls or {}), path)
    hooks = _hooks(path, module)
    custom = [backend.name for backend in backends if backend.auth == "custom"]
    if custom and hooks.authenticate is None:
        raise InvalidInput(
            f'{path}: back-end {custom[0]} has auth="custom"; add `def authenticate(connection, provider)`'
        )
    return CampaignFile(path.resolve(), source, campaign, backends, hooks, frozenset(urls or ()))


def load_hooks(path: Path, source: str) -> Hooks:
    """The user's functions of a campaign file, for workers: they know its text and the rest from the store.

    Raises:
        InvalidInput: the text does not run, or has no `start_job`.
    """
    return _hooks(path, _run(path, source))


def _hooks(path: Path, module: ModuleType) -> Hooks:
    start_job, authenticate = getattr(module, "start_job", None), getattr(module, "authenticate", None)
    if not callable(start_job):
        raise InvalidInput(
            f"{path}: has no start_job; add `def start_job(row, connection, **kwargs)` that returns a job"
        )
    if authenticate is not None and not callable(authenticate):
        raise InvalidInput(f"{path}: authenticate is no function; write `def authenticate(connection, provider)`")
    return Hooks(start_job, authenticate, Path(str(module.__file__)))


def _run(path: Path, source: str) -> ModuleType:
    """Run the text of a campaign file as a module of its own; tracebacks show its lines."""
    name = f"fleet_campaign_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    linecache.cache[str(path)] = (len(source), None, source.splitlines(keepends=True), str(path))
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102  (the user's own code)
    except ValidationError as error:
        raise InvalidInput(f"{path}: {settings_problem(error)}") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error
    except SyntaxError as error:
        raise InvalidInput(f"{error.filename or path}, line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise InvalidInput(_where(path, error)) from error
    return module


def _where(path: Path, error: BaseException) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = f", line {lines[-1]}" if lines else ""
    return f"{path}{line}: {type(error).__name__}: {error}"


def _resolve_backends(campaign: Campaign, path: Path, backends_file: Path | None) -> dict[str, Backend]:
    known = read_backends(backends_file or path.parent / "backends.toml", required=backends_file is not None)
    resolved = {}
    for backend in campaign.backends:
        if isinstance(backend, str):
            if backend not in known:
                raise InvalidInput(
                    f"{path}: unknown back-end {backend!r}; backends.toml has {', '.join(sorted(known)) or 'none'}"
                )
            resolved[backend] = known[backend]
        else:
            resolved[backend.name] = backend
    return resolved


def _with_urls(resolved: dict[str, Backend], urls: Mapping[str, str], path: Path) -> tuple[Backend, ...]:
    for name, url in urls.items():
        if name not in resolved:
            raise InvalidInput(
                f"--backend {name}={url}: unknown back-end; {path.name} has {', '.join(sorted(resolved))}"
            )
        resolved[name] = make_backend(f"--backend {name}", resolved[name].model_dump() | {"url": url})
    return tuple(resolved.values())
