"""Failures: each kind has its class, and no message tells a secret."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import urllib3.exceptions
from hypothesis import given
from hypothesis import strategies as st
from openeo.rest import OpenEoApiError, OpenEoApiPlainError, OpenEoClientException
from pydantic import ValidationError

from campaign.errors import InvalidInput
from campaign.failure import ErrorClass, Rule
from workers.failures import (
    CODES,
    JobRefused,
    LoginFailed,
    NoResults,
    ResultsIncomplete,
    Throttled,
    UnreadableResult,
    UserCodeRaised,
    classify,
    classify_job,
    clean,
    failure_fields,
    fingerprint,
)
from workers.setbacks import PAUSES, backoff

E = ErrorClass


def api(status: int, code: str = "Internal", message: str = "what happened") -> OpenEoApiError:
    return OpenEoApiError(http_status_code=status, code=code, message=message, id="r-1")


def plain(status: int, text: str = "<html></html>") -> OpenEoApiPlainError:
    return OpenEoApiPlainError(message=text, http_status_code=status)


TABLE: list[tuple[BaseException, ErrorClass]] = [
    (api(400, "ConcurrentJobLimit"), E.CAPACITY),
    (api(429, "TooManyRequests"), E.CAPACITY),
    (api(503, "Internal"), E.OUTAGE),
    (plain(503), E.OUTAGE),
    (plain(429), E.CAPACITY),
    (api(402, "PaymentRequired"), E.PAYMENT),
    (api(402, "Whatever"), E.PAYMENT),
    (api(401, "AuthenticationRequired"), E.AUTH),
    (api(403, "TokenInvalid"), E.AUTH),
    (api(403, "CredentialsInvalid"), E.AUTH),
    (plain(401), E.AUTH),
    (api(400, "NoDataAvailable"), E.DATA),
    (api(410, "ResultLinkExpired"), E.TRANSIENT),
    (api(403, "ResultLinkExpired"), E.TRANSIENT),
    (plain(410), E.TRANSIENT),
    (api(500), E.TRANSIENT),
    (plain(500), E.TRANSIENT),
    (plain(502), E.OUTAGE),
    (api(502), E.OUTAGE),
    (plain(504), E.OUTAGE),
    (plain(408), E.TRANSIENT),
    (plain(425), E.TRANSIENT),
    (api(400, "ProcessUnsupported"), E.BACKEND),
    (api(404, "CollectionNotFound"), E.BACKEND),
    (api(404, "JobNotFound"), E.JOB),
    (plain(404), E.TRANSIENT),
    (requests.ConnectionError("reset"), E.OUTAGE),
    (requests.ConnectionError("Max retries exceeded (Caused by NewConnectionError('refused'))"), E.OUTAGE),
    (requests.ConnectionError("Max retries exceeded (Caused by NameResolutionError('unknown'))"), E.OUTAGE),
    (requests.ConnectTimeout("slow"), E.OUTAGE),
    (requests.ReadTimeout("slow"), E.TRANSIENT),
    (requests.exceptions.RetryError("again"), E.TRANSIENT),
    (requests.exceptions.ChunkedEncodingError("half"), E.TRANSIENT),
    (requests.exceptions.ContentDecodingError("gzip"), E.TRANSIENT),
    (requests.exceptions.SSLError("handshake"), E.TRANSIENT),
    (requests.exceptions.JSONDecodeError("no JSON", "<html>", 0), E.TRANSIENT),
    (urllib3.exceptions.ProtocolError("half"), E.TRANSIENT),
    (urllib3.exceptions.ReadTimeoutError(None, "/", "slow"), E.TRANSIENT),  # type: ignore[arg-type]
    (ConnectionResetError("reset"), E.TRANSIENT),
    (TimeoutError("slow"), E.TRANSIENT),
    (OSError(28, "No space left on device"), E.TRANSIENT),
    (LoginFailed("FLEET_B_PASSWORD is not set"), E.AUTH),
    (ResultsIncomplete("half"), E.TRANSIENT),
    (UnreadableResult("a.tif: damaged"), E.TRANSIENT),
    (NoResults("none"), E.DATA),
    (JobRefused("two jobs"), E.USER_CODE),
    (OpenEoClientException("no such process"), E.UNEXPECTED),
    (KeyError("column"), E.UNEXPECTED),
    (RecursionError(), E.UNEXPECTED),
]


@pytest.mark.parametrize(("error", "expected"), TABLE, ids=lambda value: repr(value)[:60])
def test_each_kind_has_its_class(error: BaseException, expected: ErrorClass) -> None:
    failure = classify(error)
    assert failure.error_class is expected
    assert failure.message


FROM_USER_CODE: list[tuple[BaseException, ErrorClass]] = [
    (KeyError("column"), E.USER_CODE),
    (SystemExit(1), E.USER_CODE),
    (RecursionError(), E.USER_CODE),
    (OpenEoClientException("no such process"), E.USER_CODE),
    (api(400, "ProcessUnsupported"), E.BACKEND),
    (api(404, "CollectionNotFound"), E.BACKEND),
    (plain(404), E.USER_CODE),
    (api(401, "AuthenticationRequired"), E.AUTH),
    (api(402, "PaymentRequired"), E.PAYMENT),
    (api(400, "ConcurrentJobLimit"), E.CAPACITY),
    (api(500), E.TRANSIENT),
    (plain(502), E.OUTAGE),
    (requests.ReadTimeout("slow"), E.TRANSIENT),
    (requests.ConnectTimeout("slow"), E.OUTAGE),
]


def raised_by_user_code(cause: BaseException) -> UserCodeRaised:
    error = UserCodeRaised("start_job raised")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(("cause", "expected"), FROM_USER_CODE, ids=lambda value: repr(value)[:60])
def test_what_user_code_raises_is_the_users_unless_it_is_the_networks(
    cause: BaseException, expected: ErrorClass
) -> None:
    failure = classify(raised_by_user_code(cause))
    assert failure.error_class is expected
    assert str(cause)[:20] in failure.message


def test_a_campaign_file_that_does_not_run_is_the_users() -> None:
    assert classify(InvalidInput("campaign.py, line 1: ModuleNotFoundError")).error_class is E.USER_CODE


def test_how_long_to_wait_is_what_the_back_end_said() -> None:
    error = api(429, "TooManyRequests")
    assert classify(error).retry_after is None
    vars(error)["retry_after"] = 90.0
    assert classify(error).retry_after == 90.0
    assert classify(raised_by_user_code(error)).retry_after == 90.0


def test_a_503_that_says_when_to_come_back_is_about_capacity() -> None:
    error = api(503, "Internal")
    vars(error)["retry_after"] = 5.0
    assert classify(error).error_class is E.CAPACITY


RULES = [
    Rule(error_class=E.DATA, match="tile is all sea"),
    Rule(error_class=E.TRANSIENT, code="CollectionNotFound"),
    Rule(error_class=E.CAPACITY, status=418),
]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (api(400, "Whatever", "this tile is all sea"), E.DATA),
        (api(404, "CollectionNotFound"), E.TRANSIENT),
        (plain(418), E.CAPACITY),
        (api(402, "PaymentRequired"), E.PAYMENT),
        (Throttled(9.0), E.TRANSIENT),
    ],
)
def test_the_users_rules_come_first(error: BaseException, expected: ErrorClass) -> None:
    assert classify(error, RULES).error_class is expected


def test_the_users_rules_for_logs() -> None:
    assert classify_job("Exception: tile is all sea", RULES).error_class is E.DATA
    assert classify_job("Exception: CollectionNotFound", RULES).error_class is E.TRANSIENT
    assert classify_job("Exception: all else", RULES).error_class is E.JOB


@pytest.mark.parametrize(
    "words", [{"match": "("}, {}, {"match": "x", "error_class": "nonsense"}, {"match": "x", "other": 1}]
)
def test_a_rule_that_makes_no_sense_is_refused(words: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rule(**{"error_class": "data"} | words)


def test_the_same_error_of_two_tiles_has_one_fingerprint() -> None:
    def message(column: str) -> str:
        try:
            raise KeyError(column)  # noqa: TRY301
        except KeyError as error:
            return classify(raised_by_user_code(error)).message

    assert fingerprint(message("t1")) == fingerprint(message("t2"))
    assert fingerprint(message("t1")) != fingerprint(classify(raised_by_user_code(ValueError("t1"))).message)


def test_every_code_and_pause_is_known() -> None:
    assert {classify(api(400, code)).error_class for code in CODES} == set(CODES.values())
    assert set(PAUSES) == {E.CAPACITY, E.AUTH, E.PAYMENT}


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ("OpenEO batch job failed: NoDataAvailable: There is no data available for the given extents.", E.DATA),
        ("Exception: Could not find any products for your query", E.DATA),
        ("load_collection: NO DATA AVAILABLE", E.DATA),
        ("Your job failed because the executor used too much memory", E.RESOURCES),
        ("java.lang.OutOfMemoryError: Java heap space", E.RESOURCES),
        ("Container killed by YARN, exit code: 137", E.RESOURCES),
        ("There is no room for improvement", E.JOB),
        ("", E.JOB),
    ],
)
def test_jobs_by_their_logs(logs: str, expected: ErrorClass) -> None:
    assert classify_job(logs).error_class is expected


def test_a_job_without_logs_has_a_message() -> None:
    assert classify_job(" \n").message == "the back-end gave no reason"


SECRETS = [
    "Authorization: Bearer basic//hunter2",
    "bearer hunter2-and-longer",
    '{"client_secret": "hunter2"}',
    "{'password': 'hunter2'}",
    '{"access_token":"hunter2"}',
    "https://s3.example/a.tif?X-Amz-Signature=hunter2&X-Amz-Date=1",
    "Authorization: Basic hunter2",
    "could not connect to redis://:hunter2@redis:6379",
    "https://x/?password=hunter2&a=b",
    "client_secret=hunter2",
    "access_token=hunter2",
    "refresh_token=hunter2 and so on",
    "https://ann:hunter2@openeo.example/1.2",
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_message_tells_a_secret(text: str) -> None:
    assert "hunter2" not in clean(text)
    assert "***" in clean(text)
    for error in (api(401, message=text), plain(500, text), requests.ConnectionError(text), KeyError(text)):
        assert "hunter2" not in classify(error).message
    assert "hunter2" not in classify_job(text).message


@given(st.text(max_size=100), st.sampled_from(["bearer basic//", "password=", "token=", "client_secret="]))
def test_secrets_are_found_wherever_they_are(around: str, before: str) -> None:
    assert "hunter2" not in clean(f"{around} {before}hunter2 {around}")


def test_a_secret_is_not_told_by_cutting_it() -> None:
    text = "Bearer " + "h" * 5000
    assert "hh" not in clean(text)


def test_long_messages_keep_their_end() -> None:
    text = clean("first line\n" + "x" * 5000 + "\nKeyError: 'column'")
    assert len(text) <= 2004
    assert text.startswith("... ")
    assert text.endswith("KeyError: 'column'")


def test_a_traceback_says_where_in_the_users_code() -> None:
    def user_code(depth: int) -> Any:
        return {}["column"] if depth == 0 else user_code(depth - 1)

    try:
        user_code(500)
    except KeyError as error:
        message = classify(raised_by_user_code(error)).message
    assert "in user_code" in message
    assert message.endswith("KeyError: 'column'")
    assert len(message) <= 2004


def test_what_a_tile_keeps() -> None:
    assert failure_fields(classify(api(402, "PaymentRequired", "none left"))) == {
        "error_class": "payment",
        "error": "[402] PaymentRequired: none left (ref: r-1)",
    }


def test_waits_grow_and_have_an_end() -> None:
    for tries in range(40):
        assert min(300, 2**tries) / 2 <= backoff(tries) <= min(300, 2**tries)
