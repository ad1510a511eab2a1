"""Which jobs are a tile's no longer."""

from __future__ import annotations

import pytest

from campaign.tile import Marker, Tile, TileStatus
from workers.strays import is_stray

S = TileStatus


@pytest.mark.parametrize(
    ("tile", "attempt", "stray"),
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
def test_a_job_is_a_stray_when_its_tile_has_another_or_is_past_it(tile: Tile, attempt: int, stray: bool) -> None:  # noqa: FBT001
    assert is_stray(tile, "j", Marker("c", "t", attempt, "run")) is stray
