"""The script: what happens to jobs whose titles match, job by job rather than by chance."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from sandbox.fields import changed
from sandbox.memory import read_size


def _read_pattern(name: str, value: Any) -> str:
    try:
        re.compile(value)
    except (TypeError, re.error) as error:
        raise ValueError(f"{name}: {value!r} is not a regular expression: {error}") from error
    return str(value)


@dataclass(frozen=True)
class Rule:
    """What happens to the jobs it holds for; the defaults are nothing out of the ordinary.

    A job meets its rule when it is made (one made before the script, when it is next dealt with) and keeps it until
    the script is set anew: the first rule whose title matches and whose `times` are not used up.
    """

    title: str = field(default="", metadata={"read": _read_pattern})
    """Regular expression that is searched in the job's title; an empty one is found in each."""
    times: int = 0
    """Only the first so many jobs; later ones go on to the rules below. 0 is all."""
    failure: str = ""
    """The job ends in error with this code (see the behaviour's `failure`)."""
    lost_answer: bool = False
    """`POST /jobs` makes the job, but its answer never arrives."""
    late_seconds: float = 0.0
    """Seconds after it was made until the job can be seen: in listings, by its id, or at all."""
    lost_start: bool = False
    """A `POST /jobs/{id}/results` that starts the job is never answered; asking again is."""
    job_seconds: float = -1.0
    """Seconds it stays running at least; negative leaves the behaviour's."""
    queue_seconds: float = -1.0
    """Seconds it stays queued at least; negative leaves the behaviour's."""
    needs_memory: str = field(default="", metadata={"read": read_size})
    """As the behaviour's; empty leaves that."""
    broken_download: bool = False
    """The connection of a download closes half-way."""
    short_download: bool = False
    """A download ends half-way and looks complete."""
    downloads: int = 0
    """Only the job's first so many downloads are broken or short. 0 is all."""
    cancel_after: float = -1.0
    """Seconds after it was started (queued) until the back-end's operator cancels it. Negative is never."""
    vanish_after: float = -1.0
    """Seconds after it was started (queued) until it is deleted, results and all. Negative is never."""

    def matches(self, title: str) -> bool:
        """Whether a title is one of the rule's."""
        return re.search(self.title, title) is not None


#: The rule of jobs that the script says nothing about.
NOTHING = Rule()


def read_script(name: str, value: Any) -> tuple[Rule, ...]:
    """Rules from a list of objects, or from JSON text of one.

    Raises:
        ValueError: for an unknown key, a value that does not fit, or what is no such list.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value or "[]")
        except ValueError as error:
            raise ValueError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, (list, tuple)) or not all(isinstance(rule, dict) for rule in value):
        raise ValueError(f"{name} is a list of rules, not {value!r}")
    return tuple(changed(NOTHING, rule, f"key of a rule of the {name}") for rule in value)
