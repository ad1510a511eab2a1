"""How much memory a job asks for, and how much it needs: sizes as JVMs write them."""

from __future__ import annotations

import re
from typing import Any

#: What an executor has when a job asks for nothing, as on the Copernicus Data Space back-end.
DEFAULT = "2G"
_OPTION = "executor-memory"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size(text: str) -> float:
    """Bytes of a size like `4G`, `512m` or `1.5 GiB`; nothing is 0.

    Raises:
        ValueError: for anything else.
    """
    if not text:
        return 0
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a size of memory like 4G or 512m")
    return float(found[1]) * 1024.0 ** _POWERS[found[2].lower()]


def read_size(name: str, value: Any) -> str:
    """A size as it was written, once it is known to be one.

    Raises:
        ValueError: when it is none.
    """
    text = str(value)
    try:
        size(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return text


def is_too_small(submission: dict[str, Any], needed: str) -> bool:
    """Whether a job asks for less memory than it needs, in its job options or at the top level of its request.

    Raises:
        ValueError: when what it asks for is no size.
    """
    if not needed:
        return False
    options = submission.get("job_options")
    asked = {**submission, **(options if isinstance(options, dict) else {})}.get(_OPTION)
    return size(str(asked or DEFAULT)) < size(needed)
