"""The command line: `openeo-fleet COMMAND`. Each command loads what it needs when it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from campaign.errors import FleetError, InvalidInput
from campaign.tile import TileStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign.settings import Settings
    from campaign.spec import CampaignFile

EXIT_FAILED_TILES = 1
EXIT_WRONG_INPUT = 2
EXIT_STOPPED = 130


class _Commands(click.Group):
    """A group whose commands end with one clear line per problem, never with a traceback for what a user can mend."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FleetError as error:
            for line in str(error).splitlines():
                click.echo(f"error: {line}", err=True)
            ctx.exit(EXIT_WRONG_INPUT if isinstance(error, InvalidInput) else 3)


def workdir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--workdir DIR`."""
    text = "Folder for all that is written; default: FLEET_WORKDIR, else here."
    return click.option("--workdir", type=click.Path(file_okay=False, path_type=Path), help=text)(command)


def backend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--backend NAME=URL`."""
    text = "Use the back-end NAME at URL instead."
    return click.option("--backend", "urls", multiple=True, metavar="NAME=URL", help=text)(command)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="openeo-fleet")
def main() -> None:
    """Run an openEO workflow over every tile of a grid."""


@main.command()
@click.argument("campaign")
@workdir_option
@backend_option
@click.option("--flower/--no-flower", default=True, help="Whether Flower is started too.")
def run(campaign: str, workdir: Path | None, urls: tuple[str, ...], *, flower: bool) -> None:
    """Run CAMPAIGN to its end on this machine; run again to resume."""
    from producer import run as room  # noqa: PLC0415

    settings = _settings(workdir)
    try:
        sys.exit(room.run(_load(campaign, settings, urls), settings, _console(), flower=flower))
    except room.Stopped as stopped:
        click.echo(f"stopped by {stopped}; the same command resumes the campaign", err=True)
        sys.exit(EXIT_STOPPED)


@main.command()
@click.argument("campaign")
@workdir_option
@backend_option
def check(campaign: str, workdir: Path | None, urls: tuple[str, ...]) -> None:
    """Tell everything that is wrong with CAMPAIGN before anything is sent."""
    from producer.check import check as check_campaign  # noqa: PLC0415

    settings = _settings(workdir)
    file = _load(campaign, settings, urls)
    checked = check_campaign(file, settings.workdir)
    checked.refuse()
    backends = ", ".join(backend.name for backend in file.backends)
    tiles = 0 if checked.table is None else len(checked.table)
    click.echo(f"{file.campaign.name}: {tiles} tiles on {backends}; nothing is wrong")


@main.command()
@click.argument("campaign")
@workdir_option
@backend_option
def enqueue(campaign: str, workdir: Path | None, urls: tuple[str, ...]) -> None:
    """Put CAMPAIGN into the store and send its tiles to the workers."""
    from producer.check import check as check_campaign  # noqa: PLC0415
    from producer.enqueue import enqueue as enqueue_campaign  # noqa: PLC0415
    from producer.session import open_store  # noqa: PLC0415

    settings = _settings(workdir)
    file = _load(campaign, settings, urls)
    checked = check_campaign(file, settings.workdir)
    checked.refuse()
    with open_store(settings, create=True) as (store, url):
        done = enqueue_campaign(file, store, url, settings.workdir, checked.table)
    click.echo(f"{file.campaign.name}: {done.total} tiles, {done.new} new, {done.sent} tasks sent")


@main.command()
@click.argument("name", required=False)
@workdir_option
@click.option("--watch", is_flag=True, help="Show it until the campaign has ended.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object (a list of them without NAME).")
def status(name: str | None, workdir: Path | None, *, watch: bool, as_json: bool) -> None:
    """Tell how the campaign NAME, or each one, stands."""
    from producer import progress, report  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    with open_store(_settings(workdir)) as (store, _):
        metas = [known_campaign(store, known) for known in ([name] if name else store.campaigns())]
        if watch and metas:
            progress.watch(store, metas[0], lambda: None, _console())
        objects = [report.status(store, meta) for meta in metas]
        if as_json:
            click.echo(json.dumps(objects[0] if name else objects, indent=2))
            return
        for meta in metas:
            backends = [store.backend(backend) for backend in meta.backends]
            _console().print(progress.render(meta, store.counts(meta.name), progress.Throughput(), backends))


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

    with open_store(_settings(workdir)) as (store, _):
        meta = known_campaign(store, name)
        if tile_id:
            click.echo(report.one_tile(store, meta, tile_id))
            return
        for tile in store.tiles(name, TileStatus(wanted) if wanted else None):
            fields = (tile.id, tile.status, str(tile.attempt), tile.backend, tile.job_id, report.last_line(tile.error))
            click.echo("\t".join(fields).rstrip())


@main.command()
@click.argument("name")
@workdir_option
@click.option("--status", "wanted", type=click.Choice(["failed", "canceled", "skipped"]), default="failed")
@click.option("--id", "ids", multiple=True, help="Only these tiles.")
def retry(name: str, workdir: Path | None, wanted: str, ids: tuple[str, ...]) -> None:
    """Send failed tiles of the campaign NAME back to the step that failed."""
    from producer import control  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    with open_store(_settings(workdir)) as (store, url):
        meta = known_campaign(store, name)
        chosen = [tile for tile in store.tiles(name, TileStatus(wanted)) if not ids or tile.id in ids]
        click.echo(f"{name}: {control.retry(store, url, meta, chosen)} tiles sent back; `run` or the workers go on")


@main.command()
@click.argument("name")
@workdir_option
def cancel(name: str, workdir: Path | None) -> None:
    """Cancel all tiles of the campaign NAME that are not done, and their jobs."""
    from producer import control  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    with open_store(_settings(workdir)) as (store, _):
        canceled, problems = control.cancel(store, known_campaign(store, name))
    click.echo(f"{name}: {canceled} tiles canceled")
    for problem in problems:
        click.echo(f"warning: jobs may still run there: {problem}", err=True)


@main.command()
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@workdir_option
def export(name: str, file: Path, workdir: Path | None) -> None:
    """Write the table of the campaign NAME with each tile's state to FILE (.csv, .parquet or .geojson)."""
    from campaign import table as tables  # noqa: PLC0415
    from producer import report  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415

    with open_store(_settings(workdir)) as (store, _):
        frame = report.table(store, known_campaign(store, name))
    tables.export_table(frame, file)
    click.echo(f"{file}: {len(frame)} tiles")


@main.command("map")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@workdir_option
def status_map(name: str, file: Path | None, workdir: Path | None) -> None:
    """Draw the tiles of the campaign NAME by status into FILE (default: map.html beside the results)."""
    from producer import report  # noqa: PLC0415
    from producer.session import known_campaign, open_store  # noqa: PLC0415
    from producer.status_map import write_status_map  # noqa: PLC0415

    with open_store(_settings(workdir)) as (store, _):
        meta = known_campaign(store, name)
        path = file or report.map_path(meta)
        write_status_map(report.table(store, meta), path, meta.name)
    click.echo(str(path))


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sandbox(arguments: tuple[str, ...]) -> None:
    """Run the local openEO back-end (its own options: sandbox --help)."""
    import subprocess  # noqa: PLC0415

    sys.exit(subprocess.call([sys.executable, "-m", "sandbox", *arguments]))  # noqa: S603


@main.command()
@workdir_option
def demo(workdir: Path | None) -> None:
    """Run the Antwerp NDVI example on a sandbox of its own."""
    from producer.demo import demo as run_demo  # noqa: PLC0415

    sys.exit(run_demo(_settings(workdir or Path("demo")), _console()))


def _settings(workdir: Path | None) -> Settings:
    from campaign.settings import read_settings  # noqa: PLC0415

    return read_settings(workdir)


def _load(campaign: str, settings: Settings, urls: tuple[str, ...]) -> CampaignFile:
    from campaign.spec import load_campaign  # noqa: PLC0415
    from producer.session import campaign_path  # noqa: PLC0415

    overrides = {}
    for option in urls:
        name, equals, url = option.partition("=")
        if not equals or not name or not url:
            raise InvalidInput(f"--backend {option}: has to be NAME=URL")
        overrides[name] = url
    return load_campaign(campaign_path(campaign, settings), settings.backends, overrides)


def _console() -> Any:
    from rich.console import Console  # noqa: PLC0415

    return Console()


if __name__ == "__main__":
    main()
