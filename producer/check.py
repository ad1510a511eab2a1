"""check: everything that can be wrong with a campaign is told before anything is sent."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaign import table as tables
from campaign.errors import InvalidInput
from producer.ask import log_in_problems
from producer.enqueue import output_folder, read_table, tiles_of

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from campaign.spec import CampaignFile


@dataclass(frozen=True)
class Checked:
    """What a check found."""

    problems: tuple[str, ...]
    """A line each; none when the campaign can be run."""
    table: pd.DataFrame | None
    """The campaign's table, None when it cannot be had."""

    def refuse(self) -> None:
        """Raise `InvalidInput` with all problems, if there are any."""
        if self.problems:
            raise InvalidInput("\n".join(self.problems))


def check(file: CampaignFile, workdir: Path, *, ask_backends: bool = True) -> Checked:
    """All problems of a campaign; a file that cannot be loaded raises before.

    Args:
        file: the campaign file.
        workdir: folder that relative outputs are below.
        ask_backends: whether back-ends are asked for an answer and credentials are tried.
    """
    found, table = _table_problems(file)
    problems = [f"{file.path.name}: {problem}" for problem in found]
    problems += _output_problems(output_folder(file, workdir))
    if ask_backends:
        problems += log_in_problems(file.backends)
    return Checked(tuple(problems), table)


def _table_problems(file: CampaignFile) -> tuple[list[str], pd.DataFrame | None]:
    try:
        table = read_table(file)
    except InvalidInput as error:
        return [str(error)], None
    problems = tables.check_table(table)
    try:
        tiles_of(file, table)
        tables.encode(table)
    except InvalidInput as error:
        problems.append(str(error))
    return list(dict.fromkeys(problems)), table


def _output_problems(folder: Path) -> list[str]:
    """Whether files can be made in `folder`; what is made for the test is removed again."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        return [f"output {folder}: {existing} is not a folder"]
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return [f"output {folder}: cannot be written ({os.strerror(error.errno or 0)}); choose another output"]
    return []
