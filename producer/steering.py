"""Commands that steer what runs: pause, resume, limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from campaign.errors import InvalidInput
from producer.command import Command, settings_for, workdir_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--backend", help="A back-end instead: no jobs are started there, for any campaign.")
@workdir_option
def pause(name: str | None, backend: str | None, workdir: Path | None) -> None:
    """Begin no more tiles of the campaign NAME; jobs that are started go on and are delivered."""
    from producer import control  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    _one_of(name, backend)
    with open_store(settings_for(workdir)) as opened:
        if backend:
            control.stop_backend(opened.store, backend, stop=True)
        elif name:
            control.pause(opened.store, known_campaign(opened.store, name))
    click.echo(f"{name or backend} is paused; `openeo-fleet resume` ends that")


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--backend", help="A back-end instead.")
@click.option("--budget", type=float, help="Credits that may be spent in all from now on.")
@workdir_option
def resume(name: str | None, backend: str | None, budget: float | None, workdir: Path | None) -> None:
    """Let the campaign NAME go on: after a pause, a spent budget, or a pilot that did not go well."""
    from producer import control  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    _one_of(name, backend)
    with open_store(settings_for(workdir)) as opened:
        if backend:
            control.stop_backend(opened.store, backend, stop=False)
        elif name:
            control.resume(opened.store, known_campaign(opened.store, name), budget)
    click.echo(f"{name or backend} goes on; `run` or the workers see to it")


@click.command(cls=Command)
@click.argument("backend")
@click.argument("changes", nargs=-1, metavar="LIMIT=VALUE...")
@workdir_option
def limit(backend: str, changes: tuple[str, ...], workdir: Path | None) -> None:
    """Change what BACKEND allows while campaigns run, until one is enqueued again: parallel_jobs=4, say."""
    from campaign.backends import LIMITS  # noqa: PLC0415
    from producer import control  # noqa: PLC0415
    from producer.session import open_store  # noqa: PLC0415

    wrong = [change for change in changes if "=" not in change]
    if wrong:
        raise InvalidInput(f"{wrong[0]}: has to be LIMIT=VALUE")
    with open_store(settings_for(workdir)) as opened:
        asked = dict(change.split("=", 1) for change in changes)
        now = control.limit_backend(opened.store, backend, asked)
    click.echo(f"{backend}: " + ", ".join(f"{name}={getattr(now, name)}" for name in LIMITS))


def _one_of(name: str | None, backend: str | None) -> None:
    if bool(name) == bool(backend):
        raise InvalidInput("give the NAME of a campaign, or --backend and the name of a back-end")
