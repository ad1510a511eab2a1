"""The command line: `openeo-fleet COMMAND`. Each command loads what it needs when it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from campaign.errors import InvalidInput
from campaign.tile import Step, TileStatus
from producer.command import (
    EXIT_STOPPED,
    Group,
    backend_option,
    console,
    load,
    pilot_option,
    settings_for,
    warn,
    with_pilot,
    workdir_option,
)
from producer.steering import limit, pause, recover, resume

if TYPE_CHECKING:
    from campaign.meta import CampaignMeta
    from campaign.store import TileStore


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="openeo-fleet")
def main() -> None:
    """Run an openEO workflow over every tile of a grid."""


@main.command()
@click.argument("campaign")
@workdir_option
@backend_option
@click.option("--flower/--no-flower", default=True, help="Whether Flower is started too.")
@pilot_option
def run(campaign: str, workdir: Path | None, urls: tuple[str, ...], pilot: int | None, *, flower: bool) -> None:
    """Run CAMPAIGN to its end on this machine; run again to resume."""
    from producer.run import Stopped  # noqa: PLC0415
    from producer.run import run as run_campaign  # noqa: PLC0415

    settings = settings_for(workdir)
    try:
        sys.exit(run_campaign(with_pilot(load(campaign, settings, urls), pilot), settings, console(), flower=flower))
    except Stopped as stopped:
        click.echo(f"stopped by {stopped}; the same command resumes the campaign", err=True)
        sys.exit(EXIT_STOPPED)


@main.command()
@click.argument("campaign")
@workdir_option
@backend_option
def check(campaign: str, workdir: Path | None, urls: tuple[str, ...]) -> None:
    """Tell everything that is wrong with CAMPAIGN before anything is sent."""
    from producer.check import check as check_campaign  # noqa: PLC0415

    settings = settings_for(workdir)
    file = load(campaign, settings, urls)
    checked = check_campaign(file, settings.workdir)
    checked.refuse()
    backends = ", ".join(backend.name for backend in file.backends)
    tiles = 0 if checked.table is None else len(checked.table)
    click.echo(f"{file.campaign.name}: {tiles} tiles on {backends}; nothing is wrong")


@main.command()
@click.argument("campaign")
@workdir_option
@backend_option
def login(campaign: str, workdir: Path | None, urls: tuple[str, ...]) -> None:
    """Log in to the back-ends of CAMPAIGN in a browser, once for all workers of this machine."""
    from producer.login import login as log_in  # noqa: PLC0415

    if code := log_in(load(campaign, settings_for(workdir), urls)):
        sys.exit(code)


@main.command()
@click.argument("campaign")
@workdir_option
@backend_option
@pilot_option
def enqueue(campaign: str, workdir: Path | None, urls: tuple[str, ...], pilot: int | None) -> None:
    """Put CAMPAIGN into the store and send its tiles to the workers."""
    from producer.check import check_before  # noqa: PLC0415
    from producer.enqueue import enqueue as enqueue_campaign  # noqa: PLC0415
    from producer.session import open_store  # noqa: PLC0415

    settings = settings_for(workdir)
    file = with_pilot(load(campaign, settings, urls), pilot)
    with open_store(settings, create=True) as opened:
        table = check_before(file, opened.store, settings.workdir, warn)
        done = enqueue_campaign(file, opened.store, opened.url, settings.workdir, table)
    click.echo(f"{file.campaign.name}: {done.total} tiles, {done.new} new, {done.sent} tasks sent")


@main.command()
@click.argument("name", required=False)
@workdir_option
@click.option("--watch", "follow", is_flag=True, help="Show it until the campaign has ended.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object (a list of them without NAME).")
def status(name: str | None, workdir: Path | None, *, follow: bool, as_json: bool) -> None:
    """Tell how the campaign NAME, or each one, stands."""
    from producer import progress, report  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    with open_store(settings_for(workdir)) as opened:
        store = opened.store
        metas = [known_campaign(store, known) for known in ([name] if name else store.campaigns())]
        if follow and len(metas) > 1:
            raise InvalidInput(f"--watch shows one campaign: give a NAME, one of {', '.join(store.campaigns())}")
        if follow and metas:
            progress.watch(store, metas[0], opened.look_after, console(err=as_json))
        if as_json:
            objects = [report.status(store, meta) for meta in metas]
            click.echo(json.dumps(objects[0] if name else objects, indent=2))
            return
        for meta in metas:
            _show(store, meta)


def _show(store: TileStore, meta: CampaignMeta) -> None:
    """One campaign on the terminal."""
    from producer import progress, report  # noqa: PLC0415

    counts = store.counts(meta.name)
    backends = [store.backend(backend) for backend in meta.backends]
    terminal = console()
    terminal.print(progress.render(meta, counts, progress.Throughput(), backends), soft_wrap=not terminal.is_terminal)
    for line in report.lines(store, meta):
        click.echo(line)


@main.command()
@click.argument("name")
@workdir_option
@click.option(
    "--status", "wanted", type=click.Choice([status.value for status in TileStatus]), help="Only tiles in this status."
)
@click.option("--id", "tile_id", help="One tile, with all that failed for it so far.")
def tiles(name: str, workdir: Path | None, wanted: str | None, tile_id: str | None) -> None:
    """List the tiles of the campaign NAME: id, status, attempt, back-end, job, reason."""
    from producer import report  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    with open_store(settings_for(workdir)) as opened:
        meta = known_campaign(opened.store, name)
        if tile_id:
            click.echo(report.one_tile(opened.store, meta, tile_id))
            return
        for tile in opened.store.tiles(name, TileStatus(wanted) if wanted else None):
            fields = (tile.id, tile.status, str(tile.attempt), tile.backend, tile.job_id, report.last_line(tile.error))
            click.echo("\t".join(fields).rstrip())


@main.command()
@click.argument("name")
@workdir_option
@click.option("--status", "wanted", type=click.Choice(["failed", "canceled", "skipped"]), default="failed")
@click.option("--id", "ids", multiple=True, help="Only these tiles.")
@click.option("--class", "classes", multiple=True, help="Only tiles whose failure has this class.")
@click.option(
    "--step",
    "failed_step",
    type=click.Choice([step.value for step in Step]),
    help="Only tiles that failed at this step.",
)
@click.option(
    "--from",
    "step",
    type=click.Choice([step.value for step in Step if step is not Step.TRACK]),
    help="The step to go back to (submit: with a new job); default: the one that failed.",
)
def retry(  # noqa: PLR0913, PLR0917  (options)
    name: str,
    workdir: Path | None,
    wanted: str,
    ids: tuple[str, ...],
    classes: tuple[str, ...],
    failed_step: str | None,
    step: str | None,
) -> None:
    """Send failed tiles of the campaign NAME back to the step that failed."""
    from producer import control  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    with open_store(settings_for(workdir)) as opened:
        meta = known_campaign(opened.store, name)
        choice = control.Choice(TileStatus(wanted), frozenset(ids), frozenset(classes), failed_step)
        chosen = choice.tiles(opened.store, meta)
        sent = control.retry(opened.store, opened.url, meta, chosen, Step(step) if step else None)
    click.echo(f"{name}: {sent} tiles sent back; `run` or the workers go on")
    if left := len(chosen) - sent:
        click.echo(f"{name}: {left} tiles stay as they are: they never came to that step, or somebody was faster")


@main.command()
@click.argument("name")
@workdir_option
def cancel(name: str, workdir: Path | None) -> None:
    """Cancel all tiles of the campaign NAME that are not done, and their jobs."""
    from producer import control  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    with open_store(settings_for(workdir)) as opened:
        canceled, problems = control.cancel(opened.store, known_campaign(opened.store, name))
    click.echo(f"{name}: {canceled} tiles canceled")
    for problem in problems:
        warn(f"jobs may still run there: {problem}; `cancel` again tries again")


@main.command()
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@workdir_option
def export(name: str, file: Path, workdir: Path | None) -> None:
    """Write the table of the campaign NAME with each tile's state to FILE (.csv, .parquet or .geojson)."""
    from campaign import table as tables  # noqa: PLC0415
    from campaign.table.extent import with_geometry  # noqa: PLC0415
    from producer import report  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    with open_store(settings_for(workdir)) as opened:
        frame = report.table(opened.store, known_campaign(opened.store, name))
    tables.export_table(with_geometry(frame) if file.suffix.lower() == ".geojson" else frame, file)
    click.echo(f"{file}: {len(frame)} tiles")


@main.command("map")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@workdir_option
def status_map(name: str, file: Path | None, workdir: Path | None) -> None:
    """Draw the tiles of the campaign NAME by status into FILE (default: map.html beside the results)."""
    from campaign.table.extent import with_geometry  # noqa: PLC0415
    from producer import report  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415
    from producer.status_map import write_status_map  # noqa: PLC0415

    with open_store(settings_for(workdir)) as opened:
        meta = known_campaign(opened.store, name)
        path = file or report.map_path(meta)
        write_status_map(with_geometry(report.table(opened.store, meta)), path, meta.name)
    click.echo(str(path))


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sandbox(arguments: tuple[str, ...]) -> None:
    """Run the local openEO back-end (its own options: sandbox --help)."""
    import os  # noqa: PLC0415

    os.execv(sys.executable, [sys.executable, "-P", "-m", "sandbox", *arguments])  # noqa: S606  (signals are its own)


@main.command()
@workdir_option
def demo(workdir: Path | None) -> None:
    """Run the Antwerp NDVI example on a sandbox of its own."""
    from producer.demo import demo as run_demo  # noqa: PLC0415

    sys.exit(run_demo(settings_for(workdir or Path("demo")), console()))


for command in (pause, resume, limit, recover):
    main.add_command(command)


if __name__ == "__main__":
    main()
