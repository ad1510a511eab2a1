"""Which jobs are a tile's no longer."""

from __future__ import annotations

import pytest

from campaign.tile import Marker, Tile, TileStatus
from workers.orphans import is_orphan

S = TileStatus


@pytest.mark.parametrize(
    ("tile", "attempt", "orphan"),
    [
        (Tile("c", "t", S.QUEUED, attempt=1, job_id="j"), 1, False),
        (Tile("c", "t", S.QUEUED, attempt=1, job_id="other"), 1, True),
        (Tile("c", "t", S.QUEUED, attempt=2, job_id="other"), 1, True),
        (Tile("c", "t", S.PUBLISHED, attempt=1, job_id="other"), 1, True),
        (Tile("c", "t", S.CANCELED, attempt=1, job_id="j"), 1, False),
        (Tile("c", "t", S.SUBMITTING, attempt=1), 1, False),
        (Tile("c", "t", S.SUBMITTING, attempt=1, holder="w"), 1, False),
        (Tile("c", "t", S.SUBMITTING, attempt=2), 1, True),
        (Tile("c", "t", S.SUBMITTING, attempt=2, holder="w"), 1, False),
        (Tile("c", "t", S.NOT_STARTED, attempt=1), 1, True),
        (Tile("c", "t", S.NOT_STARTED, attempt=0), 1, False),
        (Tile("c", "t", S.FAILED, attempt=1), 1, False),
        (Tile("c", "t", S.QUEUED, attempt=1, job_id="other"), 2, False),
    ],
)
def test_a_job_is_an_orphan_when_its_tile_has_another_or_is_past_it(tile: Tile, attempt: int, orphan: bool) -> None:  # noqa: FBT001
    assert is_orphan(tile, "j", Marker("c", "t", attempt, "run")) is orphan
