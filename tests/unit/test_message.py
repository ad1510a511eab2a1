"""Messages: each tells one worker what to look at, in JSON, and a person what it is about."""

from __future__ import annotations

import json

import pytest

from campaign.message import FINALIZE, broker_options, finalize_message, tile_message, track_message
from campaign.tile import NEXT_STEP, TERMINAL, Step, Tile, TileStatus

S = TileStatus


@pytest.mark.parametrize("status", list(NEXT_STEP))
def test_a_tile_goes_to_the_queue_of_its_next_step(status: TileStatus) -> None:
    message = tile_message(Tile("c", "t0", status, attempt=2, backend="b"))
    assert message is not None
    assert (message.task, message.queue) == (NEXT_STEP[status], NEXT_STEP[status])
    wanted = {"backend": "b"} if message.task == Step.TRACK else {"campaign": "c", "tile": "t0"}
    assert json.loads(json.dumps(dict(message.kwargs))) == wanted
    assert "c/t0" in message.shown
    assert message.options()["queue"] == message.queue


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_tile_at_rest_has_no_message(status: TileStatus) -> None:
    assert tile_message(Tile("c", "t0", status)) is None


def test_the_id_of_a_task_names_the_attempt() -> None:
    ids = [
        message.task_id
        for tile in (
            Tile("c", "t0"),
            Tile("c", "t0", S.SUBMITTING, attempt=1),
            Tile("c", "t0", attempt=1),
            Tile("c", "t0", S.FINISHED, attempt=2),
        )
        if (message := tile_message(tile))
    ]
    assert ids == ["c.t0.submit.1", "c.t0.submit.1", "c.t0.submit.2", "c.t0.postprocess.2"]


def test_a_message_about_many_tiles_names_some() -> None:
    message = track_message("b", [Tile("c", f"t{number}", S.QUEUED) for number in range(25)])
    assert message.shown.startswith("b: c/t0, c/t1, ")
    assert message.shown.endswith("c/t19 and 5 more")
    assert message.task_id is None


def test_finalize_goes_where_publish_goes() -> None:
    message = finalize_message("c")
    assert (message.task, message.queue, message.kwargs) == (FINALIZE, Step.PUBLISH, {"campaign": "c"})


def test_two_fleets_in_one_redis_have_their_own_queues() -> None:
    assert broker_options("one")["global_keyprefix"] != broker_options("two")["global_keyprefix"]
