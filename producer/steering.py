"""Commands that steer what runs, or bring it back: pause, resume, limit, recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from campaign.errors import InvalidInput
from producer.command import Command, backend_option, load, settings_for, warn, workdir_option

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


@click.command(cls=Command)
@click.argument("campaign")
@workdir_option
@backend_option
@click.option("--run", "run_id", metavar="ID", default="", help="Which run of it, where there are jobs of several.")
@click.option("--keep-orphans", is_flag=True, help="Only list jobs that no tile owns; default: cancel them.")
def recover(campaign: str, workdir: Path | None, urls: tuple[str, ...], run_id: str, *, keep_orphans: bool) -> None:
    """Rebuild CAMPAIGN, whose Redis is gone, from its jobs and results; cancel jobs that no tile owns."""
    from producer import report  # noqa: PLC0415
    from producer.recover import Wishes  # noqa: PLC0415
    from producer.recover import recover as recover_campaign  # noqa: PLC0415
    from producer.session import open_store  # noqa: PLC0415

    settings = settings_for(workdir)
    file = load(campaign, settings, urls)
    wishes = Wishes(run_id, keep_orphans)
    with open_store(settings, create=True) as opened:
        done = recover_campaign(file, opened, settings.workdir, wishes, click.echo)
        for line in report.recovered(opened.store, done, kept=keep_orphans):
            click.echo(line)
    for problem in done.problems:
        warn(f"jobs may still run there: {problem}; `recover` again tries again")
