"""Each way of logging in, over real HTTP: what it takes, how it goes on, and what it says when it cannot."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from openeo.rest import OpenEoApiError
from openeo.rest.auth.auth import OidcBearerAuth
from openeo.rest.auth.config import AuthConfig, RefreshTokenStore

from campaign.backends import Backend
from campaign.failure import ErrorClass
from campaign.spec import load_campaign
from campaign.tile import TileStatus
from producer.enqueue import enqueue
from workers.backend import Asset, download
from workers.connection import connect
from workers.device import log_in as log_in_at_terminal
from workers.failures import LoginFailed, LoginUnavailable, classify
from workers.login import _Held
from workers.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from campaign.store import TileStore
    from sandbox.spawn import Sandbox
    from tests.integration.conftest import Fleet
    from workers.connection import FleetConnection

PUBLIC = "sandbox-default-client"
GRAPH: dict[str, Any] = {"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_sandbox: Sandbox) -> Iterator[None]:
    """Nothing in the environment, nobody logged in."""
    for name in [name for name in os.environ if name.startswith(("FLEET_", "OPENEO_"))]:
        monkeypatch.delenv(name)
    for folder in ("DATA", "CONFIG"):
        (tmp_path / folder / "openeo-python-client").mkdir(parents=True)  # else the client takes one in the home folder
        monkeypatch.setenv(f"XDG_{folder}_HOME", str(tmp_path / folder))
    fast_sandbox.clear_stats()
    yield
    fast_sandbox.reset(fast=True)


@pytest.fixture
def backend(fast_sandbox: Sandbox) -> Callable[..., Backend]:
    return lambda auth, **more: Backend(**{"name": "local", "url": fast_sandbox.url, "auth": auth} | more)


def fresh_refresh_token(sandbox: Sandbox) -> str:
    form = {"grant_type": "password", "username": "demo", "password": "demo", "client_id": PUBLIC}
    answer = requests.post(sandbox.url.replace("/openeo/1.2", "/oidc/token"), data=form, timeout=10)
    return str(answer.json()["refresh_token"])


def issuer(sandbox: Sandbox) -> str:
    return sandbox.url.replace("/openeo/1.2", "/oidc")


def keep(sandbox: Sandbox, token: str) -> None:
    RefreshTokenStore().set_refresh_token(issuer(sandbox), PUBLIC, token)


def kept(sandbox: Sandbox) -> str:
    return str(RefreshTokenStore().get_refresh_token(issuer(sandbox), PUBLIC))


def user(connection: FleetConnection) -> str:
    return str(connection.describe_account()["user_id"])


def prepare(way: str, sandbox: Sandbox, setenv: Callable[[str, str], None]) -> tuple[str, str]:
    """Set what `way` needs; the `auth` and the user that come of it."""
    match way:
        case "basic":
            setenv("FLEET_LOCAL_USERNAME", "demo")
            setenv("FLEET_LOCAL_PASSWORD", "demo")
            return "basic", "demo"
        case "basic, the client's":
            AuthConfig().set_basic_auth(sandbox.url, "other", "secret")
            return "basic", "other"
        case "client credentials":
            setenv("FLEET_LOCAL_CLIENT_ID", "robot")
            setenv("FLEET_LOCAL_CLIENT_SECRET", "key")
            return "client_credentials", "robot"
        case "client credentials, the client's" | "oidc by client credentials":
            setenv("OPENEO_AUTH_CLIENT_ID", "robot")
            setenv("OPENEO_AUTH_CLIENT_SECRET", "key")
            setenv("OPENEO_AUTH_METHOD", "client_credentials")
            return ("oidc" if way.startswith("oidc") else "client_credentials"), "robot"
        case "refresh token":
            setenv("FLEET_LOCAL_REFRESH_TOKEN", fresh_refresh_token(sandbox))
            return "refresh_token", "demo"
    keep(sandbox, fresh_refresh_token(sandbox))
    return ("oidc" if way.startswith("oidc") else "refresh_token"), "demo"


WAYS = (
    "basic",
    "basic, the client's",
    "client credentials",
    "client credentials, the client's",
    "refresh token",
    "refresh token, kept",
    "oidc, kept",
    "oidc by client credentials",
)


@pytest.fixture(params=WAYS)
def logged_in(request: Any, fast_sandbox: Sandbox, backend: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says who is logged in, and logs in."""
    auth, name = prepare(request.param, fast_sandbox, monkeypatch.setenv)
    return lambda: (connect(backend(auth)), name)


def expired(connection: FleetConnection, *, known: bool) -> None:
    """Have the back-end refuse the token that a connection holds; whether its end is `known`."""
    auth = OidcBearerAuth(provider_id="sandbox", access_token="worn.out.token")
    connection.login._held = _Held(Token(auth), due=0.0, ends=0.0) if known else _Held(Token(auth))


def statuses(sandbox: Sandbox, *wanted: str) -> int:
    return sum(sandbox.stats()["statuses"].get(status, 0) for status in wanted)


def test_each_way_logs_in(logged_in: Any, capfd: pytest.CaptureFixture[str]) -> None:
    connection, name = logged_in()
    assert user(connection) == name
    assert capfd.readouterr().out == ""


def test_a_token_is_replaced_before_it_ends(logged_in: Any, fast_sandbox: Sandbox) -> None:
    fast_sandbox.behave(token_seconds=2)
    connection, name = logged_in()
    seen = set()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        assert user(connection) == name
        seen.add(connection.auth.bearer)
        time.sleep(0.05)
    assert statuses(fast_sandbox, "401", "403") == 0
    assert 3 <= len(seen) <= 4


@pytest.mark.parametrize("kind", ["GET", "POST"])
def test_a_refused_token_is_replaced_and_the_request_repeated_once(
    logged_in: Any, fast_sandbox: Sandbox, kind: str
) -> None:
    connection, name = logged_in()
    expired(connection, known=False)
    fast_sandbox.clear_stats()
    if kind == "GET":
        assert user(connection) == name
    else:
        connection.create_job(GRAPH, title="once")
        assert fast_sandbox.stats()["requests"]["POST /jobs"] == 2
    assert statuses(fast_sandbox, "401", "403") == 1


def test_a_token_that_has_ended_is_not_even_sent(logged_in: Any, fast_sandbox: Sandbox) -> None:
    connection, _ = logged_in()
    expired(connection, known=True)
    connection.create_job(GRAPH, title="once")
    assert statuses(fast_sandbox, "401", "403") == 0


def test_a_back_end_that_takes_no_token_is_not_asked_again_and_again(logged_in: Any, fast_sandbox: Sandbox) -> None:
    connection, _ = logged_in()
    connection.login._source = lambda: Token(OidcBearerAuth(provider_id="sandbox", access_token="never.any.good"))
    expired(connection, known=False)
    fast_sandbox.clear_stats()
    with pytest.raises(OpenEoApiError, match="TokenInvalid") as raised:
        connection.describe_account()
    assert statuses(fast_sandbox, "401", "403") == 2
    assert classify(raised.value).error_class is ErrorClass.AUTH


# An identity provider in trouble


OIDC = [way for way in WAYS if not way.startswith("basic")]


@pytest.mark.parametrize("way", OIDC)
def test_a_provider_in_trouble_is_not_taken_for_wrong_credentials(
    way: str, backend: Any, fast_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth, name = prepare(way, fast_sandbox, monkeypatch.setenv)
    fast_sandbox.behave(provider_errors=1.0)
    with pytest.raises(LoginUnavailable, match=r"cannot log in now.*HTTP 503") as raised:
        connect(backend(auth))
    assert classify(raised.value).error_class is ErrorClass.OUTAGE
    fast_sandbox.behave(provider_errors=0.0)
    connection = connect(backend(auth))
    fast_sandbox.behave(provider_errors=1.0)
    connection.login._held = _Held(connection.login._held.token, due=0.0, ends=time.monotonic() + 60)
    assert user(connection) == name
    expired(connection, known=True)
    with pytest.raises(LoginUnavailable):
        user(connection)
    fast_sandbox.behave(provider_errors=0.0)
    assert user(connection) == name


def test_a_provider_that_is_away_is_not_taken_for_wrong_credentials(
    backend: Any, fast_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth, _ = prepare("client credentials", fast_sandbox, monkeypatch.setenv)
    connection = connect(backend(auth))
    monkeypatch.setattr(
        "workers.tokens.TokenSession.request", lambda *_, **__: requests.get("http://127.0.0.1:9", timeout=2)
    )
    expired(connection, known=True)
    with pytest.raises(LoginUnavailable, match="ConnectionError"):
        user(connection)


def test_tiles_wait_for_a_provider_in_trouble(make_fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_LOCAL_CLIENT_ID", "robot")
    monkeypatch.setenv("FLEET_LOCAL_CLIENT_SECRET", "key")
    fleet = make_fleet(auth="client_credentials")
    monkeypatch.setenv("FLEET_LOCAL_CLIENT_ID", "robot")
    monkeypatch.setenv("FLEET_LOCAL_CLIENT_SECRET", "key")
    fleet.sandbox.behave(provider_errors=1.0)
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.error_class, tile.tries) == (TileStatus.NOT_STARTED, "outage", 1)
    assert not fleet.store.backend("local").paused


# What is refused or missing


@pytest.mark.parametrize(
    ("auth", "environment", "told"),
    [
        ("basic", {}, "FLEET_LOCAL_USERNAME and FLEET_LOCAL_PASSWORD are not set"),
        ("basic", {"USERNAME": "demo", "PASSWORD": "very-wrong"}, "FLEET_LOCAL_PASSWORD were refused"),
        (
            "client_credentials",
            {},
            "FLEET_LOCAL_CLIENT_SECRET (or OPENEO_AUTH_CLIENT_ID and OPENEO_AUTH_CLIENT_SECRET) are not",
        ),
        ("client_credentials", {"CLIENT_ID": "robot", "CLIENT_SECRET": "very-wrong"}, "were refused (invalid_client)"),
        ("refresh_token", {}, "nobody has logged in here yet: `openeo-fleet login CAMPAIGN` does it"),
        ("refresh_token", {"REFRESH_TOKEN": "very-wrong"}, "FLEET_LOCAL_REFRESH_TOKEN was refused (invalid_grant)"),
        ("oidc", {}, "nobody has logged in here yet: `openeo-fleet login CAMPAIGN` does it"),
        ("custom", {}, "no campaign file with an `authenticate`"),
    ],
)
def test_wrong_or_missing_credentials(
    backend: Any, auth: str, environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"FLEET_LOCAL_{name}", value)
    before = time.monotonic()
    with pytest.raises(LoginFailed) as raised:
        connect(backend(auth))
    assert time.monotonic() - before < 5
    assert told in str(raised.value)
    assert "very-wrong" not in str(raised.value)
    assert classify(raised.value).error_class is ErrorClass.AUTH


def test_a_kept_token_that_is_refused(backend: Any, fast_sandbox: Sandbox) -> None:
    keep(fast_sandbox, "very-wrong")
    with pytest.raises(
        LoginFailed, match=r"that is kept was refused; `openeo-fleet login CAMPAIGN` gets a new one \(inv"
    ):
        connect(backend("oidc"))


def test_an_unknown_method_and_an_unknown_provider(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LoginFailed, match="'elsewhere' not available"):
        connect(backend("oidc", provider_id="elsewhere"))
    monkeypatch.setenv("OPENEO_AUTH_METHOD", "magic")
    with pytest.raises(LoginFailed, match="OPENEO_AUTH_METHOD: there is no 'magic'"):
        connect(backend("oidc"))


def test_a_store_that_others_can_read_is_told(backend: Any, fast_sandbox: Sandbox) -> None:
    keep(fast_sandbox, "x")
    RefreshTokenStore().path.chmod(0o644)
    with pytest.raises(LoginFailed, match="could be readable by others"):
        connect(backend("oidc"))


# Refresh tokens that hold once


def test_a_rotated_token_is_kept_by_the_process_it_came_to(
    backend: Any, fast_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast_sandbox.behave(single_use_refresh_tokens=True)
    auth, _ = prepare("refresh token", fast_sandbox, monkeypatch.setenv)
    connection = connect(backend(auth))
    for _ in range(3):
        expired(connection, known=True)
        assert user(connection) == "demo"
    assert not RefreshTokenStore().path.exists()


@pytest.mark.parametrize("auth", ["refresh_token", "oidc"])
def test_a_rotated_token_is_kept_for_all_processes(backend: Any, fast_sandbox: Sandbox, auth: str) -> None:
    fast_sandbox.behave(single_use_refresh_tokens=True)
    keep(fast_sandbox, first := fresh_refresh_token(fast_sandbox))
    connections = [connect(backend(auth)) for _ in range(3)]

    def use(connection: FleetConnection) -> None:
        for _ in range(3):
            expired(connection, known=True)
            assert user(connection) == "demo"

    threads = [threading.Thread(target=use, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept(fast_sandbox) != first
    assert statuses(fast_sandbox, "400", "401", "403") == 0
    assert user(connect(backend(auth))) == "demo"


# The user's own way


HOOK = """

def authenticate(connection, provider):
    import os
    assert provider == "local"
    connection.authenticate_basic(os.environ["MY_USER"], os.environ["MY_PASSWORD"])
"""


def enqueued(make_fleet: Any, monkeypatch: pytest.MonkeyPatch, code: str = HOOK, **words: Any) -> Fleet:
    monkeypatch.setenv("MY_USER", "other")
    monkeypatch.setenv("MY_PASSWORD", "secret")
    fleet: Fleet = make_fleet(auth="custom", code=code, **words)
    return fleet


def test_the_campaign_file_logs_in(make_fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = enqueued(make_fleet, monkeypatch)
    fleet.sandbox.behave(token_seconds=1)
    fleet.step("t0")
    assert fleet.tile("t0").status is TileStatus.QUEUED
    connection = fleet.context.connection("local")
    assert user(connection) == "other"
    fleet.sandbox.clear_stats()
    first = connection.auth.bearer
    time.sleep(0.9)
    assert user(connection) == "other"
    assert connection.auth.bearer != first
    assert statuses(fleet.sandbox, "401", "403") == 0
    expired(connection, known=False)
    assert user(connection) == "other"


def test_campaigns_share_the_back_end_and_its_login(
    make_fleet: Any, write_campaign: Any, store: TileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was enqueued last logs in; a changed function is used from then on."""
    fleet = enqueued(make_fleet, monkeypatch)
    before = fleet.context.connection("local")
    path = write_campaign(
        auth="custom", code=HOOK.replace('os.environ["MY_USER"], os.environ["MY_PASSWORD"]', '"demo", "demo"')
    )
    file = load_campaign(path)
    enqueue(file, store, fleet.settings.redis_url, fleet.settings.workdir)
    assert store.backend_settings("local")["authenticated_by"] == file.campaign.name
    after = fleet.context.connection("local")
    assert after is not before
    assert user(after) == "demo"
    before.session.close()


def test_what_it_raises_names_its_line_and_no_secret(make_fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code = HOOK.replace("    connection.authenticate_basic(", "    raise ValueError(")
    fleet = enqueued(make_fleet, monkeypatch, code)
    fleet.step("t0")
    tile = fleet.tile("t0")
    assert (tile.status, tile.error_class) == (TileStatus.NOT_STARTED, "auth")
    line = (
        fleet.path.read_text()
        .splitlines()
        .index('    raise ValueError(os.environ["MY_USER"], os.environ["MY_PASSWORD"])')
    )
    assert f"authenticate raised in {fleet.path}, line {line + 1}: ValueError: ('other', '***')" in tile.error
    assert tile.error in fleet.store.backend("local").paused_reason
    assert "secret" not in tile.error


def test_a_server_in_trouble_is_no_wrong_password(make_fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n\ndef authenticate(connection, provider):\n    import requests\n    requests.get('http://127.0.0.1:9', timeout=5)\n"
    fleet = enqueued(make_fleet, monkeypatch, code)
    fleet.step("t0")
    assert fleet.tile("t0").error_class == "outage"
    assert "authenticate raised in" in fleet.tile("t0").error


def test_a_device_code_is_nothing_for_a_worker(make_fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n\ndef authenticate(connection, provider):\n    connection.authenticate_oidc()\n"
    fleet = enqueued(make_fleet, monkeypatch, code)
    with pytest.raises(LoginFailed, match="device code needs somebody at a terminal"):
        fleet.context.connection("local")


def test_a_campaign_that_is_gone_logs_nobody_in(make_fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = enqueued(make_fleet, monkeypatch)
    fleet.store.redis.hset(fleet.store.key("b", "local"), "authenticated_by", "gone")
    with pytest.raises(LoginFailed, match="campaign gone is not in the store any more"):
        fleet.context.connection("local")


# Commands


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-P", "-m", "producer.cli", *arguments, "--workdir", str(tmp_path / "work")]
        return subprocess.run(
            words, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run


@pytest.mark.parametrize("auth", ["oidc", "refresh_token"])
def test_login_at_a_terminal(command: Any, write_campaign: Any, fast_sandbox: Sandbox, auth: str) -> None:
    fast_sandbox.behave(single_use_refresh_tokens=True)
    path = str(write_campaign(auth=auth))
    for name in ("check", "run"):
        before = command(name, path)
        assert before.returncode == 2
        assert "nobody has logged in here yet: `openeo-fleet login CAMPAIGN` does it" in before.stderr
    done = command("login", path)
    assert done.returncode == 0, done.stderr
    assert "and enter user code 'SANDBOX' to authenticate." in done.stdout
    assert "back-end local: logged in" in done.stdout
    assert kept(fast_sandbox) not in done.stdout + done.stderr
    for _ in range(2):
        assert "nothing is wrong" in command("check", path).stdout


def test_login_where_it_makes_no_sense(command: Any, write_campaign: Any) -> None:
    done = command("login", str(write_campaign(auth="basic")))
    assert done.returncode == 2
    assert "no back-end takes a login of yours (local: basic)" in done.stderr


def test_login_that_fails(command: Any, write_campaign: Any, fast_sandbox: Sandbox) -> None:
    fast_sandbox.behave(provider_errors=1.0)
    done = command("login", str(write_campaign(auth="oidc")))
    assert done.returncode == 1
    assert "error: back-end local (http" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_and_cancel_use_the_campaign_file_to_log_in(
    make_fleet: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = enqueued(make_fleet, monkeypatch, HOOK.replace("import os", 'import os; print("hello")'))
    assert "nothing is wrong" in command("check", str(fleet.path)).stdout
    wrong = command("check", str(fleet.path), MY_PASSWORD="very-wrong")
    assert wrong.returncode == 2
    assert f"authenticate raised in {fleet.path}, line " in wrong.stderr
    assert "very-wrong" not in wrong.stderr
    fleet.sandbox.behave(job_seconds=60)
    fleet.step("t0")
    environment = {"FLEET_REDIS_URL": fleet.settings.redis_url, "FLEET_NAMESPACE": fleet.settings.namespace}
    done = command("cancel", fleet.name, **environment)
    assert "3 tiles canceled" in done.stdout, done.stderr
    assert "warning" not in done.stderr
    assert fleet.context.connection("local").job(fleet.tile("t0").job_id).status() == "canceled"


def test_the_device_flow_leaves_what_workers_take(backend: Any, fast_sandbox: Sandbox, capsys: Any) -> None:
    log_in_at_terminal(backend("oidc"))
    assert "SANDBOX" in capsys.readouterr().out
    assert RefreshTokenStore().path.stat().st_mode & 0o77 == 0
    assert user(connect(backend("oidc"))) == "demo"


# A bearer goes to its back-end only


class _Server(http.server.ThreadingHTTPServer):
    """An openEO back-end that sends callers to another host, and what they said when they came."""

    def __init__(self, elsewhere: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.elsewhere = elsewhere
        self.came: list[tuple[str, str | None, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        self.server.came.append((self.path, self.headers.get("Authorization"), body))
        if self.server.elsewhere and self.path.startswith(("/moved", "/oidc/token")):
            self.send_response(307)
            self.send_header("Location", self.server.elsewhere + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        url = self.server.url
        documents: dict[str, Any] = {
            "/": {"api_version": "1.2.0", "endpoints": [{"path": "/credentials/basic", "methods": ["GET"]}]},
            "/credentials/basic": {"access_token": "the-bearer"},
            "/credentials/oidc": {"providers": [{"id": "p", "issuer": f"{url}/oidc", "title": "p"}]},
            "/oidc/.well-known/openid-configuration": {"issuer": url, "token_endpoint": f"{url}/oidc/token"},
        }
        content = json.dumps(documents.get(self.path, {})).encode()
        self.send_response(404 if self.path.startswith("/.well-known") else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815  (its name is http.server's)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[tuple[_Server, _Server]]:
    other = _Server()
    own = _Server(other.url)
    for server in (own, other):
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield own, other
    for server in (own, other):
        server.shutdown()
        server.server_close()


def test_a_bearer_does_not_go_to_another_host(
    servers: tuple[_Server, _Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, other = servers
    monkeypatch.setenv("FLEET_LOCAL_USERNAME", "demo")
    monkeypatch.setenv("FLEET_LOCAL_PASSWORD", "demo")
    connection = connect(Backend(name="local", url=own.url, auth="basic"))
    connection.get("/here")
    assert own.came[-1][:2] == ("/here", "Bearer basic//the-bearer")
    connection.get("/moved")
    connection.get(f"{other.url}/direct")
    for href in (f"{own.url}/moved/file", f"{other.url}/file"):
        download(connection, Asset("file", href, None), tmp_path / "file")
    assert [path for path, *_ in other.came] == ["/moved", "/direct", "/moved/file", "/file"]
    assert {bearer for _, bearer, _ in other.came} == {None}
    connection.session.close()


def test_credentials_do_not_follow_a_redirect(
    servers: tuple[_Server, _Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = servers
    monkeypatch.setenv("FLEET_LOCAL_CLIENT_ID", "robot")
    monkeypatch.setenv("FLEET_LOCAL_CLIENT_SECRET", "the-secret")
    with pytest.raises(LoginUnavailable, match="HTTP 307"):
        connect(Backend(name="local", url=own.url, auth="client_credentials"))
    assert "the-secret" in own.came[-1][2]
    assert other.came == []
