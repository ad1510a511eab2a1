"""How busy a back-end's slots are and what a tile costs in requests: openeo-fleet beside others, in one run.

Each client gets the same tiles on a sandbox of its own, started afresh, with 20 slots, jobs of 3 s that compute nothing,
and 0.2 s of latency on every request. The figures are the sandbox's own. Beside openeo-fleet stand the job manager of the
openEO Python client, and a bare loop, which keeps no state: the limit of what anyone who polls at that interval can reach.
Prints a table, and the same as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from room_campaign import BACKEND, SLOTS
from room_measure import CLIENT, JOB_SECONDS, KINDS, LATENCY, OTHER, USER, Outcome, measure

from campaign import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).resolve().parent
TILES, FEW = 200, 40
"""Tiles of a run, and of one by the job manager, which would take minutes for more."""
TICK = 0.25
QUEUED = 10

MANAGER = (sys.executable, str(HERE / "room_manager.py"), "{url}", CLIENT, "{folder}")
LOOP = (sys.executable, str(HERE / "room_loop.py"), "{url}", USER, "{folder}")
FLEET = (
    *(sys.executable, "-P", "-m", "producer.cli", "run", str(HERE / "room_campaign.py"), "--no-flower"),
    *("--backend", f"{BACKEND}={{url}}", "--workdir", "{folder}"),
)


@dataclass(frozen=True)
class Variant:
    """One of those who are compared."""

    title: str
    command: Sequence[str]
    settings: Mapping[str, int] = field(default_factory=dict)
    """Settings of openeo-fleet's back-end that it asks for, if they are there."""
    queued: bool = False
    """Whether jobs may wait in the back-end's own queue; otherwise the sandbox refuses more than its slots."""
    most: int | None = None
    """Tiles it gets at most."""
    asked: bool = True
    """Whether it is run when nobody names it."""


VARIANTS: Mapping[str, Variant] = {
    "manager": Variant("MultiBackendJobManager", MANAGER, most=FEW),
    "loop": Variant("bare loop, every 0.5 s", (*LOOP, "--every=0.5")),
    "loop-1s": Variant("bare loop, every 1 s", (*LOOP, "--every=1")),
    "loop-queued": Variant(
        "bare loop, every 0.5 s, queueing", (*LOOP, f"--room={SLOTS + QUEUED}"), queued=True, asked=False
    ),
    "fleet": Variant("openeo-fleet", FLEET, {"queued_jobs": 0, "prepared_jobs": SLOTS}),
    "fleet-queued": Variant("openeo-fleet, queueing", FLEET, {"queued_jobs": QUEUED}, queued=True),
}


def run(name: str, tiles: int, folder: Path) -> Outcome:
    """Run one variant once."""
    variant = VARIANTS[name]
    identifier, _, secret = CLIENT.partition(":")
    environment = {
        "BENCH_TILES": str(tiles),
        "BENCH_BACKEND": json.dumps(dict(variant.settings)),
        "FLEET_TICK": str(TICK),
        f"FLEET_{BACKEND.upper()}_CLIENT_ID": identifier,
        f"FLEET_{BACKEND.upper()}_CLIENT_SECRET": secret,
    }
    return measure(variant.command, environment, tiles, folder, 0 if variant.queued else SLOTS)


def tiles_of(name: str, tiles: int) -> int:
    """How many tiles a variant gets."""
    return min(tiles, VARIANTS[name].most or tiles)


def table(outcomes: Mapping[str, Outcome], tiles: int) -> str:
    """The tables: how busy, and which requests."""
    kinds = [*KINDS.values(), OTHER]
    head = f"{'':32} {'tiles':>5} {'busy':>6} {'wall':>6} {'requests':>8}  " + " ".join(f"{kind:>8}" for kind in kinds)
    lines = [f"{'':61}of them, per tile", head]
    for name, outcome in outcomes.items():
        shares = " ".join(f"{outcome.requests[kind]:8.2f}" for kind in kinds)
        figures = f"{outcome.busy:>6.1%} {outcome.wall:>4.0f} s {outcome.per_tile:>8.2f}"
        lines.append(f"{VARIANTS[name].title:32} {tiles_of(name, tiles):>5} {figures}  {shares}")
    lines += [
        "",
        f"{'processors kept busy by':32} {'client':>6} {'sandbox':>8} {'others':>7}   sandbox answers in  refused",
    ]
    for name, outcome in outcomes.items():
        cores = f"{outcome.cores.client:>6.2f} {outcome.cores.sandbox:>8.2f} {outcome.cores.others:>7.2f}"
        answers = f"{outcome.answers[0]:.1f} ms, p95 {outcome.answers[1]:.1f}"
        refused = ", ".join(f"{number} x {status}" for status, number in sorted(outcome.refused.items())) or "none"
        lines.append(f"{VARIANTS[name].title:32} {cores} {answers:>20}  {refused}")
    return "\n".join([*lines, *notes(outcomes)])


def notes(names: Sequence[str] | Mapping[str, Outcome]) -> list[str]:
    """What a reader has to know beside the tables."""
    missing = {setting for name in names for setting in VARIANTS[name].settings} - set(Backend.model_fields)
    return (
        [f"openeo-fleet ran without {', '.join(sorted(missing))}: its back-ends have no such setting"]
        if missing
        else []
    )


def as_json(outcomes: Mapping[str, Outcome], tiles: int, rounds: int) -> str:
    """The line of JSON; `of_loop` is how near to the bare loop's share of busy slots each comes."""
    limit = outcomes["loop"].busy if "loop" in outcomes else None
    variants: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        words = asdict(outcome) | {"per_tile": outcome.per_tile, "tiles": tiles_of(name, tiles)}
        variants[name] = words | ({"of_loop": outcome.busy / limit} if limit else {})
    setting = {"slots": SLOTS, "job_seconds": JOB_SECONDS, "latency": LATENCY, "rounds": rounds}
    return json.dumps({"benchmark": "room", **setting, "variants": _rounded(variants)})


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return round(value, 3) if isinstance(value, float) else value


@contextmanager
def folder_for(kept: Path | None) -> Iterator[Path]:
    """A folder for everything: one that is kept, or one that goes away with the block."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=False)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="bench-room-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=TILES, help="tiles of each run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each, in turn; the middle one counts")
    parser.add_argument("--only", action="append", choices=list(VARIANTS), metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave all files there: logs, stores, results")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = options()
    names = given.only or [name for name, variant in VARIANTS.items() if variant.asked]
    found: dict[str, list[Outcome]] = {name: [] for name in names}
    with folder_for(given.keep) as folder:
        for number in range(given.rounds):
            for name in names:
                outcome = run(name, tiles_of(name, given.tiles), folder / f"{name}-{number}")
                print(f"{name}: {outcome.busy:.1%} busy", file=sys.stderr, flush=True)
                found[name].append(outcome)
    middle = {
        name: sorted(runs, key=lambda outcome: outcome.busy)[(len(runs) - 1) // 2] for name, runs in found.items()
    }
    print(table(middle, given.tiles))
    print(as_json(middle, given.tiles, given.rounds))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
