"""Takes secrets out of text that people or files get to see."""

from __future__ import annotations

import os
import re
from collections import deque

_NAME = r"[\w.-]{0,30}(?:password|passwd|secret|token|authorization|signature|credential|api[_-]?key)[\w.-]{0,30}"
"""Bounded on both sides, so that a long word takes no long time."""

_VALUE = r"""(?:"[^"]*"|'[^']*'|(?:(?:basic|bearer)\s+)?[^\s"',}&)]+)"""

_PATTERNS = (
    # the user name and password of a URL, and all that follows its question mark: signed links are secrets
    (re.compile(r"(\b\w{1,20}://)[^\s/@'\"]+@"), r"\1***@"),
    (re.compile(r"(\b\w{1,20}://[^\s'\"?<>]+)\?[^\s'\"<>]+"), r"\1?***"),
    # name=value, name: value, "name": "value", and tokens as headers have them
    (re.compile(rf"""(["']?{_NAME}["']?\s{{0,3}}[:=]\s{{0,3}}){_VALUE}""", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(bearer|basic)\s+(?=\S*\d|\S{20})[\w./+=-]+", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"\beyJ[\w-]{8,4000}\.[\w-]{4,4000}(?:\.[\w-]{0,2000})?"), "***"),  # a JWT
    (re.compile(r"\b(basic|oidc)/([^/\s]{0,40})/[\w./+=-]+"), r"\1/\2/***"),
)

_VARIABLES = re.compile(r"(FLEET|OPENEO|STAC|AWS)_.*(PASSWORD|SECRET|TOKEN|KEY)|.*(PASSWORD|PASSWD|SECRET|TOKEN)")
"""Variables whose values are secrets; those of a user's `authenticate` may have any name."""

_SHORTEST = 4
_kept: deque[str] = deque(maxlen=100)


def keep_secret(value: str) -> None:
    """Have `scrub` know a secret that this process was given, a token say."""
    if len(value) >= _SHORTEST and value not in _kept:
        _kept.append(value)


def scrub(text: str) -> str:
    """`text` with three stars for each secret: what looks like one, and what the environment says is one."""
    known = [value for name, value in os.environ.items() if len(value) >= _SHORTEST and _VARIABLES.fullmatch(name)]
    for value in (*known, *tuple(_kept)):
        text = text.replace(value, "***")
    for pattern, stars in _PATTERNS:
        text = pattern.sub(stars, text)
    return text
