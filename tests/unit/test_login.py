"""Tokens are replaced before they end, by one thread for all; trouble meanwhile costs nothing while the old one holds."""

from __future__ import annotations

import base64
import json
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from openeo.rest.auth.auth import BearerAuth, NullAuth

from campaign.errors import FleetError
from workers import login as logins
from workers.failures import LoginFailed, LoginUnavailable
from workers.login import Login, _Held
from workers.tokens import Token, seconds_left

if TYPE_CHECKING:
    from collections.abc import Callable


def jwt(**claims: Any) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "x"}, claims)
    ]
    return ".".join([*parts, "signature"])


def test_a_jwt_says_how_long_it_holds() -> None:
    assert seconds_left(jwt(exp=time.time() + 60)) == pytest.approx(60, abs=1)
    assert seconds_left(jwt(exp=1)) == 0


@pytest.mark.parametrize("text", ["", "opaque", "a.b.c", jwt(), jwt(exp="soon"), "ä.ö.ü", "e30.W10.x"])
def test_what_does_not_say_how_long_it_holds(text: str) -> None:
    assert seconds_left(text) is None


@pytest.mark.parametrize(
    ("life", "due"),
    [(3600, 3570), (300, 270), (150, 120), (100, 80), (20, 16), (5, 4)],
    ids=lambda number: f"{number} s",
)
def test_when_a_token_is_replaced(life: float, due: float) -> None:
    held = _Held.since(1000.0, Token(NullAuth(), life))
    assert (held.due - 1000, held.ends - 1000) == (due, life)


class Source:
    """Gives numbered tokens that hold for `life` seconds, or what is wrong."""

    def __init__(self, life: float | None) -> None:
        self.life, self.given = life, 0
        self.problem: Exception | None = None
        self.wait = threading.Event()
        self.wait.set()

    def __call__(self) -> Token:
        self.wait.wait(10)
        if self.problem is not None:
            raise self.problem
        self.given += 1
        return Token(BearerAuth(f"token-{self.given}"), self.life)


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Login, Source]]:
    def start(life: float | None) -> tuple[Login, Source]:
        source = Source(life)
        monkeypatch.setattr(logins, "WAYS", {"basic": lambda _: source})
        login = Login(SimpleNamespace(backend=SimpleNamespace(name="b", auth="basic"), auth=None))  # type: ignore[arg-type]
        login.begin()
        return login, source

    return start


def bearer(login: Login) -> str:
    return str(login._auth.bearer)  # type: ignore[attr-defined]


def test_a_token_is_used_until_it_is_due(log_in: Any) -> None:
    login, _ = log_in(0.5)
    assert (bearer(login), bearer(login)) == ("token-1", "token-1")
    time.sleep(0.42)
    assert bearer(login) == "token-2"


def test_others_use_the_old_one_while_one_thread_gets_the_new_one(log_in: Any) -> None:
    login, source = log_in(5)
    login._held = _Held(login._held.token, due=0.0, ends=time.monotonic() + 60)
    source.wait.clear()
    thread = threading.Thread(target=bearer, args=(login,))
    thread.start()
    while not login._lock.locked():
        time.sleep(0.001)
    assert bearer(login) == "token-1"
    source.wait.set()
    thread.join()
    assert bearer(login) == "token-2"
    assert source.given == 2


def test_when_it_has_ended_others_wait_for_the_new_one(log_in: Any) -> None:
    login, source = log_in(5)
    login._held = _Held(login._held.token, due=0.0, ends=0.0)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(bearer(login))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["token-2"] * 8
    assert source.given == 2


@pytest.mark.parametrize("problem", [LoginFailed("no"), LoginUnavailable("later"), FleetError("no room")])
def test_trouble_while_it_holds_is_put_off(log_in: Any, problem: Exception) -> None:
    login, source = log_in(5)
    login._held = _Held(login._held.token, due=0.0, ends=time.monotonic() + 60)
    source.problem = problem
    assert bearer(login) == "token-1"
    assert login._put_off > time.monotonic() + 4
    source.problem = None
    assert bearer(login) == "token-1"
    login._put_off = 0.0
    assert bearer(login) == "token-2"


@pytest.mark.parametrize("problem", [LoginFailed("no"), LoginUnavailable("later")])
def test_trouble_when_it_has_ended_is_told_and_asked_for_once(log_in: Any, problem: Exception) -> None:
    login, source = log_in(5)
    held = _Held(login._held.token, due=0.0, ends=0.0)
    login._held, source.problem = held, problem
    raised: list[Exception] = []
    asked: list[int] = []
    get = source.__call__

    def count() -> Token:
        asked.append(1)
        time.sleep(0.3)
        return get()

    login._source = count

    def use() -> None:
        try:
            bearer(login)
        except (LoginFailed, LoginUnavailable) as error:
            raised.append(error)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == [problem] * 6
    assert len(asked) == 1
    source.problem = None
    assert bearer(login) == "token-2"


def test_a_refusal_is_followed_by_one_new_token(log_in: Any) -> None:
    login, source = log_in(None)
    assert bearer(login) == "token-1"
    assert login.refused()
    assert bearer(login) == "token-2"
    other = threading.Thread(target=lambda: (bearer(login), login.refused()))
    other.start()
    other.join()
    login._thread.used = _Held()
    assert login.refused(), "another thread has replaced it already"
    assert (bearer(login), source.given) == ("token-3", 3)


def test_what_is_done_to_log_in_needs_no_token(log_in: Any) -> None:
    login, _ = log_in(None)
    inside: list[Any] = []

    def source() -> Token:
        inside.extend([login.current(), login.refused()])
        return Token(BearerAuth("new"))

    login._source = source
    assert login.refused()
    assert isinstance(inside[0], NullAuth)
    assert inside[1] is False
