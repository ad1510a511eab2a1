"""Tells which files of the packages a wheel lacks: `check_wheel.py WHEEL`; 0 when there are none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("campaign", "producer", "workers", "sandbox")


def missing(wheel: Path) -> list[str]:
    """Files under version control in the packages that `wheel` does not have: Lua scripts, schemas, py.typed, modules."""
    tracked = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", *PACKAGES],  # CI may be another user than who cloned
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    with ZipFile(wheel) as archive:
        return sorted(set(tracked.stdout.split()) - set(archive.namelist()))


def main() -> int:
    """Check the wheel that the command line names."""
    wheel = Path(sys.argv[1])
    lacking = missing(wheel)
    print("\n".join(f"{wheel.name} lacks {name}" for name in lacking) or f"{wheel.name} has every file of the packages")
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
