"""Takes secrets out of text that people or files get to see."""

from __future__ import annotations

import os
import re

_NAMES = r"[\w.-]*(?:password|passwd|secret|token|authorization|signature|credential|api[_-]?key)[\w.-]*"

_PATTERNS = (
    # the user name and password of a URL, and all that follows its question mark: signed links are secrets
    (re.compile(r"(\w+://)[^\s/@'\"]+@"), r"\1***@"),
    (re.compile(r"(\w+://[^\s'\"?<>]+)\?[^\s'\"<>]+"), r"\1?***"),
    # name=value, name: value, "name": "value", and tokens as headers have them
    (
        re.compile(
            rf"""(["']?{_NAMES}["']?\s*[:=]\s*)["']?(?:(?:basic|bearer)\s+)?[^\s"',}}&)]+["']?""", re.IGNORECASE
        ),
        r"\1***",
    ),
    (re.compile(r"\b(bearer|basic)\s+[\w./+=-]{8,}", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"\b(basic|oidc)/([^/\s]*)/[\w./+=-]+"), r"\1/\2/***"),
)

_VARIABLES = re.compile(r"(FLEET|OPENEO|STAC|AWS)_.*(PASSWORD|SECRET|TOKEN|KEY)")


def scrub(text: str) -> str:
    """`text` with three stars for each secret: what looks like one, and what the environment says is one."""
    for name, value in os.environ.items():
        if value and len(value) > 3 and _VARIABLES.fullmatch(name):  # noqa: PLR2004  (too short to be one)
            text = text.replace(value, "***")
    for pattern, stars in _PATTERNS:
        text = pattern.sub(stars, text)
    return text
