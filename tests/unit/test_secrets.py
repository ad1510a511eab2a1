"""Secrets: what looks like one, or is one by the environment, is three stars wherever text leaves a process."""

from __future__ import annotations

import logging
import time
from collections import deque

import pytest

from campaign import secrets
from campaign.secrets import scrub
from workers.app import _Scrubbed


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("redis://ann:hunter2@host:6379/0 is away", "redis://***@host:6379/0 is away"),
        ("GET https://s3.example/a.tif?X-Amz-Signature=hunter2&b=c (403)", "GET https://s3.example/a.tif?*** (403)"),
        ('"https://s3.example/a.tif?sig=hunter2", next', '"https://s3.example/a.tif?***", next'),
        ("Authorization: Bearer basic//hunter2", "Authorization: ***"),
        ("Authorization: Bearer oidc/egi/hunter2", "Authorization: ***"),
        ("sent Bearer hunter2hunter2 to it", "sent Bearer *** to it"),
        ("the token is basic//hunter2", "the token is basic//***"),
        ("auth oidc/egi/hunter2.hunter2 refused", "auth oidc/egi/*** refused"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.hunter2-x_Z is it", "*** is it"),
        ("{'id': 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.hunter2'}", "{'id': '***'}"),
        ("FLEET_CDSE_PASSWORD=hunter2 was set", "FLEET_CDSE_PASSWORD=*** was set"),
        ("api_key: hunter2, and more", "api_key: ***, and more"),
    ],
)
def test_what_looks_like_a_secret(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed
    assert scrub(scrubbed) == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "KeyError: 'token'",
        "job j-1 is not on the back-end any more",
        "https://openeo.example/1.2/jobs/j-1: 404",
        "[fleet:ndvi/t0/1 6dbae8db]",
        "FLEET_CDSE_USERNAME and FLEET_CDSE_PASSWORD are not set",
    ],
)
def test_what_looks_like_none_stays(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "FLEET_CDSE_PASSWORD",
        "FLEET_CDSE_REFRESH_TOKEN",
        "OPENEO_AUTH_CLIENT_SECRET",
        "STAC_API_TOKEN",
        "AWS_SECRET_KEY",
        "MY_PASSWORD",
    ],
)
def test_what_the_environment_says_is_a_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "open sesame")
    assert scrub("it said open sesame twice: open sesame") == "it said *** twice: ***"


def test_what_a_process_was_given_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_kept", deque(maxlen=2))
    for value in ("opaque-one", "opaque-two", "opaque-two", "x", "opaque-three"):
        secrets.keep_secret(value)
    assert scrub("opaque-one opaque-two opaque-three x") == "opaque-one *** *** x"


def test_what_the_environment_says_of_other_things_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_WORKDIR", "open sesame")
    monkeypatch.setenv("FLEET_CDSE_PASSWORD", "abc")
    assert scrub("open sesame, abc") == "open sesame, abc"


def test_logs_and_their_tracebacks_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_CDSE_PASSWORD", "open sesame")
    with pytest.raises(ValueError, match="hunter2") as raised:
        int("token=hunter2")
    info = (ValueError, raised.value, raised.value.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "said %s", ("open sesame",), info)
    text = _Scrubbed(logging.Formatter("%(levelname)s %(message)s")).format(record)
    assert text.startswith("ERROR said ***\nTraceback")
    assert "ValueError: invalid literal" in text
    assert "hunter2" not in text
    assert "sesame" not in text


@pytest.mark.parametrize(
    "text",
    [
        "bearer hunter2",
        '{"password": "two words hunter2"}',
    ],
)
def test_secrets_of_other_forms(text: str) -> None:
    assert "hunter2" not in scrub(text)


@pytest.mark.parametrize("word", ["token" * 110, "x" * 3000, "eyJ-" * 750], ids=["secret", "long", "JWTs"])
def test_long_words_take_no_time(word: str) -> None:
    """Logs of jobs come with binary data and stack traces of any length."""
    before = time.process_time()
    scrub(word)
    assert time.process_time() - before < 0.1
