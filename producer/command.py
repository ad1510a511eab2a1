"""What all commands have in common: options, settings, the campaign they name, and how they end."""

from __future__ import annotations

import errno
import sys
import tempfile
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from campaign.errors import FleetError, InvalidInput
from campaign.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from campaign.settings import Settings
    from campaign.spec import CampaignFile

EXIT_WRONG_INPUT = 2
EXIT_FLEET_ERROR = 3
EXIT_BUG = 70
EXIT_STOPPED = 130

_CLICKS = (click.ClickException, click.Abort, click.exceptions.Exit)
"""What click itself makes an end of the command from."""


class Command(click.Command):
    """A command that ends with one clear line per problem, never with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, and make an exit code of whatever it raises."""
        try:
            return super().invoke(ctx)
        except _CLICKS:
            raise
        except FleetError as error:
            for line in str(error).splitlines():
                click.echo(f"error: {line}", err=True)
            ctx.exit(EXIT_WRONG_INPUT if isinstance(error, InvalidInput) else EXIT_FLEET_ERROR)
        except KeyboardInterrupt:
            ctx.exit(EXIT_STOPPED)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output has seen enough
            log = _keep_traceback(error, ctx.params.get("workdir"))
            click.echo(f"error: {_summary(error)} (this should not happen; see {log})", err=True)
            ctx.exit(EXIT_BUG)


class Group(click.Group):
    """The group of our commands."""

    command_class = Command


def workdir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--workdir DIR`."""
    text = "Folder for all that is written; default: FLEET_WORKDIR, else here."
    return click.option("--workdir", type=click.Path(file_okay=False, path_type=Path), help=text)(command)


def backend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--backend NAME=URL`."""
    text = "Use the back-end NAME at URL instead."
    return click.option("--backend", "urls", multiple=True, metavar="NAME=URL", help=text)(command)


def pilot_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--pilot N`."""
    text = "Run the first N tiles alone; the others only when all of them are published."
    return click.option("--pilot", type=click.IntRange(min=1), metavar="N", help=text)(command)


def with_pilot(file: CampaignFile, pilot: int | None) -> CampaignFile:
    """The campaign with what `--pilot` says."""
    if pilot is None:
        return file
    return replace(file, campaign=file.campaign.model_copy(update={"pilot": pilot}))


def settings_for(workdir: Path | None) -> Settings:
    """The settings of this command."""
    from campaign.settings import read_settings  # noqa: PLC0415

    return read_settings(workdir)


def load(campaign: str, settings: Settings, options: tuple[str, ...]) -> CampaignFile:
    """The campaign that an argument names, with what `--backend` says.

    Raises:
        InvalidInput: there is none, or something about it is wrong.
    """
    from producer.session import find_campaign  # noqa: PLC0415

    urls = {}
    for option in options:
        name, equals, url = option.partition("=")
        if not equals or not name or not url:
            raise InvalidInput(f"--backend {option}: has to be NAME=URL")
        urls[name] = url
    return find_campaign(campaign, settings, urls)


def console(*, err: bool = False) -> Console:
    """The terminal, or whatever standard output (or error) is."""
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=err)


def warn(line: str) -> None:
    """Tell what does not stop the command."""
    click.echo(f"warning: {line}", err=True)


def _summary(error: Exception) -> str:
    lines = scrub(f"{type(error).__name__}: {error}").splitlines()
    return lines[0]


def _keep_traceback(error: Exception, workdir: Path | None) -> str:
    """Append the traceback to the log of this working directory, or to a file of its own where there is none."""
    text = scrub("".join(traceback.format_exception(error)))
    entry = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {' '.join(sys.argv[1:])}\n{text}\n"
    try:
        state_dir = settings_for(workdir).state_dir
        if state_dir.is_dir():
            log = state_dir / "logs" / "openeo-fleet.log"
            log.parent.mkdir(exist_ok=True)
            with log.open("a", encoding="utf-8") as file:
                file.write(entry)
            return str(log)
    except (OSError, FleetError):
        pass  # a full disk, say: the other place may do
    with tempfile.NamedTemporaryFile("w", prefix="openeo-fleet-", suffix=".log", delete=False) as file:
        file.write(entry)
        return file.name
