"""How a connection is logged in: the token it has now, and a new one before that ends, by one thread for all."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests
from openeo.rest import OpenEoClientException
from openeo.rest.auth.auth import BearerAuth, NullAuth
from openeo.rest.auth.oidc import OidcDeviceAuthenticator
from openeo.rest.connection import Connection

from campaign.errors import FleetError
from workers.credentials import WAYS
from workers.failures import LoginFailed, clean
from workers.tokens import Token

if TYPE_CHECKING:
    from openeo.rest.auth.auth import OpenEoApiAuthBase
    from openeo.rest.auth.oidc import OidcAuthenticator, OidcClientInfo
    from requests.auth import AuthBase

    from campaign.backends import Backend
    from campaign.spec import Hooks
    from workers.credentials import Source

log = logging.getLogger(__name__)

BEFORE = 30.0
"""Seconds before its end at which a token is replaced; a fifth of its life if that is less."""

_AGAIN_AFTER = 5.0
_AGAIN_AFTER_REFUSAL = 30.0
"""Seconds between two tries to replace a token that still holds."""

_TROUBLE = (FleetError, OpenEoClientException, requests.RequestException)


@dataclass(frozen=True)
class _Held:
    """A token and its times, by the clock of this process."""

    token: Token = field(default_factory=Token)
    due: float = math.inf
    """When it is to be replaced."""
    ends: float = math.inf

    @classmethod
    def since(cls, asked: float, token: Token) -> _Held:
        if token.seconds is None:
            return cls(token)
        return cls(token, asked + token.seconds - min(BEFORE, token.seconds / 5), asked + token.seconds)


class CurrentBearer(BearerAuth):
    """Puts the token that a connection has now into each request, also into one that is repeated."""

    def __init__(self, login: Login) -> None:
        self._login = login

    @property
    def bearer(self) -> str:  # type: ignore[override]
        """The token as the header has it."""
        return getattr(self._login.current(), "bearer", "")

    def __call__(self, request: Any) -> Any:
        """Authenticate `request`."""
        return self._login.current()(request)


class Login:
    """What one connection knows of its being logged in; threads share it."""

    def __init__(self, connection: LoginConnection) -> None:
        self._connection = connection
        self._auth: OpenEoApiAuthBase = CurrentBearer(self)
        self._source: Source | None = None
        self._held = _Held()
        self._put_off = 0.0
        self._failed: tuple[float, Exception | None] = (0.0, None)
        self._lock = threading.Lock()
        self._thread = threading.local()

    def begin(self) -> None:
        """Log in for the first time.

        Raises:
            LoginFailed: credentials are missing or refused.
        """
        if self._connection.backend.auth in WAYS:
            with self._lock:
                self._renew()

    def current(self) -> AuthBase:
        """What to authenticate a request with now; a token that is about to end is replaced before.

        While one thread gets a new token, others use the old one, or wait if that has ended.
        """
        held, now = self._held, time.monotonic()
        if getattr(self._thread, "logs_in", False):
            return NullAuth()
        if now >= held.ends:
            self._replace(held)
        elif now >= max(held.due, self._put_off) and self._lock.acquire(blocking=False):
            try:
                self._renew_quietly(held)
            finally:
                self._lock.release()
        self._thread.used = self._held
        return self._held.token.auth

    def refused(self) -> bool:
        """The back-end did not take the token that this thread used last: get another one; False if there is none.

        Raises:
            LoginFailed: credentials are missing or refused now.
        """
        if self._connection.backend.auth not in WAYS or getattr(self._thread, "logs_in", False):
            return False
        self._replace(getattr(self._thread, "used", self._held))
        return True

    def _replace(self, held: _Held) -> None:
        """Get a new token unless another thread has; what went wrong while this one waited, went wrong for it, too."""
        asked = time.monotonic()
        with self._lock:
            if self._held is not held:
                return
            failed_at, failure = self._failed
            if failure is not None and failed_at >= asked:
                raise failure
            self._renew()

    def _renew_quietly(self, held: _Held) -> None:
        """Get a new token; where that fails, the old one serves as long as it holds."""
        if self._held is not held:
            return
        try:
            self._renew()
        except _TROUBLE as error:
            wait = _AGAIN_AFTER_REFUSAL if isinstance(error, LoginFailed) else _AGAIN_AFTER
            self._put_off = time.monotonic() + wait
            log.warning("%s: no new token: %s", self._connection.backend.name, clean(str(error)))

    def _renew(self) -> None:
        """Get a new token; the lock is held."""
        self._thread.logs_in = True
        asked = time.monotonic()
        try:
            source = self._source or WAYS[self._connection.backend.auth](self._connection)
            token = source()
            self._source = source
        except _TROUBLE as error:
            self._failed = (time.monotonic(), error)
            if isinstance(error, LoginFailed):
                self._source = None  # what the environment says is read anew
            raise
        finally:
            self._thread.logs_in = False
        self._take(asked, token)

    def _take(self, asked: float, token: Token) -> None:
        if token.auth is not self._auth:  # a user's function may leave all as it is
            self._held = _Held.since(asked, token)
        if self._connection.auth is not self._auth:
            self._connection.auth = self._auth


class LoginConnection(Connection):
    """A connection that logs in as its back-end's settings and the environment say, again and again."""

    def __init__(self, backend: Backend, hooks: Hooks | None = None, **options: Any) -> None:
        self.backend, self.hooks = backend, hooks
        super().__init__(backend.url, **options)
        self.login = Login(self)

    def log_in(self) -> None:
        """Authenticate as the back-end's settings and the environment say.

        Raises:
            LoginFailed: credentials are missing or refused; names the variables to set, never their values.
            LoginUnavailable: the identity provider is in trouble.
        """
        self.login.begin()

    def try_access_token_refresh(self, *, reason: str | None = None) -> bool:
        """Get a new token after a refusal, however the first one was got; whether there is one."""
        del reason  # the client's own log line says less than what is raised
        return self.login.refused()

    def oidc_client(self, client_id: str | None, secret: str | None, default: Any = None) -> tuple[str, OidcClientInfo]:
        """The OIDC provider by its id, and the client: the one given, configured, or the provider's `default` one."""
        provider_id: Any = self.backend.provider_id
        return self._get_oidc_provider_and_client_info(
            provider_id, client_id, secret, default_client_grant_check=default
        )

    def _authenticate_oidc(self, authenticator: OidcAuthenticator, **options: Any) -> Connection:
        if isinstance(authenticator, OidcDeviceAuthenticator):
            raise LoginFailed(f"back-end {self.backend.name}: a device code needs somebody at a terminal")
        return super()._authenticate_oidc(authenticator, **options)
