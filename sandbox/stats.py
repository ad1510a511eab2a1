"""What the back-end counts about itself: requests by kind and over time, and how much of its slots was used."""

from __future__ import annotations

import bisect
import re
import time
from collections import Counter, deque
from typing import Any

_SHAPES = (
    (re.compile(r"/results/items/.+$"), "/results/items/{item}"),
    (re.compile(r"/results/assets/.+$"), "/results/assets/{file}"),
    (re.compile(r"/jobs/[^/]+"), "/jobs/{job}"),
    (re.compile(r"/collections/[^/]+"), "/collections/{collection}"),
    (re.compile(r"^/openeo/1\.2"), ""),
)
#: Bounds of the histogram of requests by second.
_BOUNDS = (1, 10, 20, 50, 100)
_LABELS = ("0", "1-9", "10-19", "20-49", "50-99", "100+")


def kind_of(method: str, path: str) -> str:
    """A request's kind: its method and the path with ids taken out."""
    for pattern, shape in _SHAPES:
        path = pattern.sub(shape, path)
    return f"{method} {path or '/'}"


class Window:
    """The most events within any window of some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._recent: deque[float] = deque()
        self.most = 0

    def add(self, now: float) -> None:
        """An event happens now."""
        while self._recent and self._recent[0] <= now - self._seconds:
            self._recent.popleft()
        self._recent.append(now)
        self.most = max(self.most, len(self._recent))


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
        self._second, self._minute = Window(1.0), Window(60.0)
        self._by_second: Counter[int] = Counter()
        self._submissions: list[float] = []
        self._busy_seconds = 0.0
        self._started = self._changed = time.monotonic()
        self._first_job: float | None = None
        self._last_job: float | None = None

    def request(self, kind: str) -> None:
        """A request came."""
        now = time.monotonic()
        self.requests[kind] += 1
        self._second.add(now)
        self._by_second[int(now - self._started)] += 1

    def submission(self) -> None:
        """A job was made."""
        self._minute.add(time.monotonic())
        self._submissions.append(round(time.time(), 3))

    def slot(self, change: int) -> None:
        """A slot was taken (+1) or given back (-1)."""
        self._integrate()
        self._busy += change
        self._first_job = self._first_job if self._first_job is not None else self._changed
        self._last_job = self._changed

    def to_dict(self, slots: int) -> dict[str, Any]:
        """All counters.

        `busy_seconds` is the integral of busy slots over time, `most_requests_in_a_second` the most within any second,
        `seconds_by_requests` how many whole seconds saw so many requests, `submissions` the times (epoch) at which
        `POST /jobs` made a job.
        """
        self._integrate()
        last = self._changed if self._busy else self._last_job
        span = (last - self._first_job) if last is not None and self._first_job is not None else 0.0
        return {
            "seconds": round(self._changed - self._started, 3),
            "requests": dict(self.requests),
            "requests_total": sum(self.requests.values()),
            "most_requests_in_a_second": self._second.most,
            "seconds_by_requests": self._histogram(),
            "submissions": list(self._submissions),
            "most_submissions_in_a_minute": self._minute.most,
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

    def _histogram(self) -> dict[str, int]:
        """Seconds that are over, by the number of their requests."""
        whole = int(self._changed - self._started)
        counts = [count for second, count in self._by_second.items() if second < whole]
        places = Counter(bisect.bisect_right(_BOUNDS, count) for count in counts)
        places[0] = whole - len(counts)
        return {label: places[place] for place, label in enumerate(_LABELS)}

    def _integrate(self) -> None:
        now = time.monotonic()
        self._busy_seconds += self._busy * (now - self._changed)
        self._changed = now
