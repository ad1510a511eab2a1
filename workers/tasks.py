"""The tasks: each runs one step on one message and sends the messages that the step leaves."""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import TYPE_CHECKING

from campaign.errors import TransitionLost
from campaign.message import FINALIZE, TICK, Message
from campaign.settings import Settings
from campaign.tile import Step, Tile
from workers.app import app
from workers.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)

_making = threading.Lock()


@cache
def _context() -> Context:
    return Context(Settings())


def context() -> Context:
    """This process's surroundings, made on the first task: after a pool has forked, once for all its threads."""
    with _making:
        return _context()


@app.task(name=Step.SUBMIT)
def submit(campaign: str, tile: str) -> None:
    """Create and start the job of one tile."""
    from workers.submit import submit as step  # noqa: PLC0415  (each worker loads its own step only)

    _run(Step.SUBMIT, step, campaign, tile)


@app.task(name=Step.TRACK)
def track(backend: str) -> None:
    """Bring the tiles with jobs on one back-end up to date."""
    from workers.track import track as step  # noqa: PLC0415

    send(step(context(), backend))


@app.task(name=Step.POSTPROCESS)
def postprocess(campaign: str, tile: str) -> None:
    """Fetch the results of one tile and make STAC items of them."""
    from workers.postprocess import postprocess as step  # noqa: PLC0415

    _run(Step.POSTPROCESS, step, campaign, tile)


@app.task(name=Step.PUBLISH)
def publish(campaign: str, tile: str) -> None:
    """Publish the STAC items of one tile."""
    from workers.publish import publish as step  # noqa: PLC0415

    _run(Step.PUBLISH, step, campaign, tile)


@app.task(name=FINALIZE)
def finalize(campaign: str) -> None:
    """Bring the catalog of a campaign up to date."""
    from workers.finalize import finalize as step  # noqa: PLC0415

    step(context(), campaign)


@app.task(name=TICK, send_events=False)
def tick() -> None:
    """Look for what is due."""
    from workers.tick import tick as step  # noqa: PLC0415

    send(step(context()))


def send(messages: Iterable[Message]) -> None:
    """Send each message to its queue."""
    for message in messages:
        app.send_task(message.task, kwargs=dict(message.kwargs), **message.options())


def _run(step: Step, work: Callable[[Context, Tile], list[Message]], campaign: str, tile_id: str) -> None:
    """Do `step` if the tile is where it is due; a message that came late or twice changes nothing."""
    tile = context().store.get(campaign, tile_id)
    if tile is None or tile.next_step is not step:
        log.info("%s/%s: nothing to %s", campaign, tile_id, step, extra={"action": step})
        return
    try:
        send(work(context(), tile))
    except TransitionLost as lost:
        log.info("%s", lost, extra={"action": step})
