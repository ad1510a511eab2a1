"""Watching: lost connections are waited out, a catalog that stays broken is not, and pauses are told."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from campaign.control import Control
from campaign.errors import FleetError, StoreUnavailable
from campaign.meta import BackendState
from campaign.tile import TileStatus
from producer import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

S = TileStatus


class Meta:
    """As much of a campaign as is shown."""

    name, total, backends = "ndvi", 10, ("local",)


class Store:
    """Answers look after look: counts, or an error."""

    def __init__(self, looks: Iterable[dict[TileStatus, int] | Exception], **state: Any) -> None:
        self.looks = iter(looks)
        self.state = backend() | state.pop("backend", {})
        self.catalog = {"published": 0.0, "errors": 0.0, "error": ""} | state

    def counts(self, _: str) -> dict[TileStatus, int]:
        look = next(self.looks)
        if isinstance(look, Exception):
            raise look
        self.catalog["published"] = look.get(S.PUBLISHED, 0)
        return look

    def catalog_state(self, _: str) -> dict[str, Any]:
        return self.catalog

    def control(self, _: str) -> Control:
        return Control()

    def backend(self, _: str) -> BackendState:
        return BackendState(**self.state)


def backend() -> dict[str, Any]:
    fields: dict[str, Any] = {"name": "local", "url": "", "parallel_jobs": 2, "started": 1, "waiting": 3}
    return fields | {"paused_until": 0.0, "paused_reason": "", "trouble": ""}


@pytest.fixture(params=[False, True], ids=["lines", "terminal"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)

    def shown(store: Store, each_time: Callable[[], None] = lambda: None) -> str:
        console = Console(file=io.StringIO(), width=300, force_terminal=request.param)
        progress.watch(store, Meta(), each_time, console)  # type: ignore[arg-type]
        text: str = console.file.getvalue()  # type: ignore[attr-defined]
        return text

    return shown


GONE = StoreUnavailable("Redis does not answer: gone")
END = {S.PUBLISHED: 10}


def test_a_lost_connection_is_waited_out_and_told_once(watch: Callable[..., str]) -> None:
    calls: list[None] = []
    text = watch(Store([{S.RUNNING: 10}, GONE, GONE, GONE, END]), lambda: calls.append(None))
    assert text.count("Redis does not answer: gone; waiting for it") == 1
    assert len(calls) == 4


def test_each_loss_is_told(watch: Callable[..., str]) -> None:
    assert watch(Store([GONE, {S.RUNNING: 10}, GONE, END])).count("waiting for it") == 2


def test_a_redis_that_does_not_start_is_given_up(watch: Callable[..., str]) -> None:
    calls: list[None] = []

    def fails() -> None:
        calls.append(None)
        raise StoreUnavailable("the embedded Redis does not start: disk full")

    with pytest.raises(StoreUnavailable, match="disk full"):
        watch(Store([GONE] * 100), fails)
    assert len(calls) == progress.RESTARTS


def test_a_catalog_error_is_told_and_the_third_one_ends_it(watch: Callable[..., str]) -> None:
    store = Store([{S.RUNNING: 10}, END], errors=2.0, error="disk full")
    assert watch(store).count("the catalog is not up to date: disk full") == 1
    with pytest.raises(FleetError, match="the catalog of ndvi cannot be brought up to date: disk full"):
        watch(Store([{S.RUNNING: 10}], errors=3.0, error="disk full"))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"paused_until": time.time() + 900, "paused_reason": "payment: none left"}, ": payment: none left"),
        ({"paused_until": time.time() - 900, "paused_reason": "payment: none left"}, None),
        ({"trouble": "HTTP 502"}, "trouble: HTTP 502"),
        ({}, None),
    ],
)
def test_what_is_wrong_with_a_back_end_is_shown(
    watch: Callable[..., str], state: dict[str, Any], words: str | None
) -> None:
    text = watch(Store([{S.RUNNING: 10}, END], backend=state))
    assert (words in text) if words else ("paused" not in text and "trouble" not in text)


@pytest.mark.parametrize(
    ("reason", "until", "told"),
    [
        ("auth: refused", 60, True),
        ("auth: refused", -5, True),
        ("auth: refused", -60, False),
        ("capacity: slow", 60, False),
    ],
)
def test_refused_credentials_are_told_after_a_while(
    watch: Callable[..., str], monkeypatch: pytest.MonkeyPatch, reason: str, until: float, *, told: bool
) -> None:
    state = {"paused_until": time.time() + until, "paused_reason": reason}
    advice = "no back-end takes the credentials"
    assert advice not in watch(Store([{S.RUNNING: 10}, END], backend=state))
    monkeypatch.setattr(progress, "AUTH_FOR", 0.0)
    assert (advice in watch(Store([{S.RUNNING: 10}, END], backend=state))) is told
