"""check: everything that can be wrong with a campaign is told before anything is sent."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaign import table as tables
from campaign.errors import FleetError, InvalidInput
from producer.ask import log_in_problems
from producer.enqueue import output_folder, read_table, tiles_of
from producer.order import in_order
from producer.progress import at_rest
from producer.resume import refuse_forgotten

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from campaign.spec import CampaignFile
    from campaign.store import TileStore

_SECONDS_TO_ANSWER = 30.0
"""How long a campaign that only goes on waits for its back-ends."""


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
    problems += _output_problems(file, workdir)
    if ask_backends:
        problems += log_in_problems(file.backends, files=login_files(file))
    return Checked(tuple(problems), table)


def check_before(file: CampaignFile, store: TileStore, workdir: Path, warn: Callable[[str], None]) -> pd.DataFrame:
    """Check a campaign that is to be enqueued; returns its table.

    What is wrong with a back-end stops a new campaign. One that is there already goes on where it can: `warn` is told.
    At its end back-ends are not asked at all.

    Raises:
        InvalidInput: something is wrong; all of it is told.
    """
    known = store.campaign(file.campaign.name)
    if known is None:
        refuse_forgotten(output_folder(file, workdir), file.campaign.name, file.path)
    checked = check(file, workdir, ask_backends=known is None)
    checked.refuse()
    if known is not None and not at_rest(store, known.name, store.counts(known.name)):
        for line in _backend_problems(file):
            warn(line)
    if checked.table is None:
        raise InvalidInput(f"{file.path}: has no table")
    return checked.table


def login_files(file: CampaignFile) -> dict[str, tuple[str, str]]:
    """The file itself for each back-end that its `authenticate` logs in to."""
    return {backend.name: (str(file.path), file.source) for backend in file.backends if backend.auth == "custom"}


def _backend_problems(file: CampaignFile) -> list[str]:
    try:
        return log_in_problems(file.backends, _SECONDS_TO_ANSWER, login_files(file))
    except FleetError as error:
        return [str(error)]


def _table_problems(file: CampaignFile) -> tuple[list[str], pd.DataFrame | None]:
    try:
        table = read_table(file)
    except InvalidInput as error:
        return [str(error)], None
    problems = tables.check_table(table)
    try:
        in_order(file, table, tiles_of(file, table))
        tables.encode(table)
    except InvalidInput as error:
        problems.append(str(error))
    return list(dict.fromkeys(problems)), table


def _output_problems(file: CampaignFile, workdir: Path) -> list[str]:
    """Whether files can be made in the output folder; what is made for the test is removed again."""
    try:
        folder = output_folder(file, workdir)
    except InvalidInput as error:
        return [f"{file.path.name}: {error}"]
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        return [f"output {folder}: {existing} is not a folder"]
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return [f"output {folder}: cannot be written ({os.strerror(error.errno or 0)}); choose another output"]
    return []
