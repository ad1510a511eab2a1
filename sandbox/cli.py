"""`python -m sandbox`: the program's arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.behaviour import read_behaviour
from sandbox.options import Options

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a back-end until it is told to stop; the exit code."""
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    try:
        options = options_from(parsed)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    from sandbox.server import serve  # noqa: PLC0415 - `--help` needs no web server

    try:
        serve(options)
    except OSError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The arguments, for this program and for others that offer them."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox", description="A local openEO back-end that executes process graphs."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--data", type=Path, default=Path(".openeo-sandbox"), help="folder of jobs and results (default: %(default)s)"
    )
    parser.add_argument("--parallel", type=int, default=2, help="jobs that run at the same time (default: %(default)s)")
    parser.add_argument("--executors", type=int, default=2, help="processes that execute them (default: %(default)s)")
    parser.add_argument(
        "--user", action="append", metavar="NAME:PASSWORD", help="a user; may be repeated (default: demo:demo)"
    )
    parser.add_argument(
        "--client", action="append", metavar="ID:SECRET", help="an OIDC client for client credentials; may be repeated"
    )
    parser.add_argument(
        "--scenes", type=Path, metavar="DIR", help="serve the GeoTIFF scenes of a folder instead of generated ones"
    )
    parser.add_argument(
        "--behaviour", action="append", metavar="KEY=VALUE|FILE", help="behaviour and faults; may be repeated"
    )
    parser.add_argument(
        "--foreign-jobs",
        type=int,
        default=0,
        metavar="N",
        help="finished jobs of the last year that the first client, else the first user, has in a new data folder",
    )
    parser.add_argument("--admin-token", help="bearer of the routes below /.sandbox (default: open to loopback)")
    parser.add_argument(
        "--ready-file", type=Path, metavar="FILE", help="JSON with url and pid, written when the back-end answers"
    )
    return parser


def options_from(parsed: argparse.Namespace) -> Options:
    """Options out of parsed arguments.

    Raises:
        ValueError: for values that do not fit.
    """
    if parsed.scenes is not None and not parsed.scenes.is_dir():
        raise ValueError(f"--scenes: {parsed.scenes} is not a folder")
    if min(parsed.parallel, parsed.executors) < 1:
        raise ValueError("--parallel and --executors are at least 1")
    if parsed.foreign_jobs < 0:
        raise ValueError("--foreign-jobs is not negative")
    return Options(
        data=parsed.data,
        host=parsed.host,
        port=parsed.port,
        parallel=parsed.parallel,
        executors=parsed.executors,
        users=_pairs("--user", parsed.user or ["demo:demo"]),
        clients=_pairs("--client", parsed.client or []),
        scenes=parsed.scenes.resolve() if parsed.scenes else None,
        behaviour=read_behaviour(parsed.behaviour or []),
        foreign_jobs=parsed.foreign_jobs,
        ready_file=parsed.ready_file,
        admin_token=parsed.admin_token,
    )


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition(":") for text in texts]
    if not all(name and colon for name, colon, _ in pairs):
        raise ValueError(f"{option} takes two parts with a colon between them")
    return {name: secret for name, _, secret in pairs}
