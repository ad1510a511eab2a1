"""What the back-end counts about itself: requests by kind, and how much of its slots was used."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any

_SHAPES = (
    (re.compile(r"/results/items/.+$"), "/results/items/{item}"),
    (re.compile(r"/results/assets/.+$"), "/results/assets/{file}"),
    (re.compile(r"/jobs/[^/]+"), "/jobs/{job}"),
    (re.compile(r"/collections/[^/]+"), "/collections/{collection}"),
    (re.compile(r"^/openeo/1\.2"), ""),
)


def kind_of(method: str, path: str) -> str:
    """A request's kind: its method and the path with ids taken out."""
    for pattern, shape in _SHAPES:
        path = pattern.sub(shape, path)
    return f"{method} {path or '/'}"


class Stats:
    """Counters since the start or the last reset."""

    def __init__(self) -> None:
        self._busy = 0
        self.reset()

    def reset(self) -> None:
        """Begin counting anew; running jobs stay counted."""
        self.requests: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._busy_seconds = 0.0
        self._started = self._changed = time.monotonic()
        self._first_job: float | None = None
        self._last_job: float | None = None

    def slot(self, change: int) -> None:
        """A slot was taken (+1) or given back (-1)."""
        self._integrate()
        self._busy += change
        self._first_job = self._first_job if self._first_job is not None else self._changed
        self._last_job = self._changed

    def to_dict(self, slots: int) -> dict[str, Any]:
        """All counters; `busy_seconds` is the integral of busy slots over time."""
        self._integrate()
        last = self._changed if self._busy else self._last_job
        span = (last - self._first_job) if last is not None and self._first_job is not None else 0.0
        return {
            "seconds": round(self._changed - self._started, 3),
            "requests": dict(self.requests),
            "requests_total": sum(self.requests.values()),
            "statuses": dict(self.statuses),
            "faults": dict(self.faults),
            "slots": {
                "size": slots,
                "busy": self._busy,
                "busy_seconds": round(self._busy_seconds, 3),
                "span_seconds": round(span, 3),
                "business": round(self._busy_seconds / (span * slots), 4) if span and slots else 0.0,
            },
        }

    def _integrate(self) -> None:
        now = time.monotonic()
        self._busy_seconds += self._busy * (now - self._changed)
        self._changed = now
