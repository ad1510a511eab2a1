"""The ways of logging in: each finds its credentials, and gives a function that gets one token after the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests
from openeo.rest import OpenEoApiPlainError, OpenEoClientException
from openeo.rest.auth.oidc import OidcClientCredentialsAuthenticator, OidcException, OidcRefreshTokenAuthenticator

from campaign.errors import FleetError
from campaign.secrets import scrub
from workers.failures import LoginFailed, LoginUnavailable
from workers.tokens import REFUSALS, Token, TokenRefused, TokenSession, for_people, kept_refresh_tokens, refreshable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from openeo.rest.auth.oidc import AccessTokenResult, OidcClientInfo

    from campaign.backends import Auth, Backend
    from workers.login import LoginConnection

Source = Callable[[], Token]
"""Gets a new token each time it is called."""

LOGIN_COMMAND = "`openeo-fleet login CAMPAIGN`"
_NO_CLIENT = "the OIDC provider or its client cannot be used"
_OPENEO = "OPENEO_AUTH_CLIENT_"


def basic(connection: LoginConnection) -> Source:
    """User name and password, from the environment or from the openEO client's own configuration."""
    backend = connection.backend
    names = _names(backend, "USERNAME", "PASSWORD")
    missing = f"{names} are not set"

    def get() -> Token:
        user, password = backend.secret("USERNAME"), backend.secret("PASSWORD")
        refused = f"{names} were refused" if user and password else missing
        if user is None:
            refused += ", and what the openEO client's configuration has was refused"
        with _told(backend, missing=missing, refused=refused):
            connection.authenticate_basic(user, password if user is None else password or "")
        return Token.of(connection.auth)

    return get


def client_credentials(connection: LoginConnection) -> Source:
    """Id and secret of an OIDC client, from our variables, the openEO client's, or its configuration."""
    backend = connection.backend
    names = _names(backend, "CLIENT_ID", "CLIENT_SECRET")
    client_id, secret = backend.secret("CLIENT_ID"), backend.secret("CLIENT_SECRET")
    if not (client_id and secret):
        names += f" (or {_OPENEO}ID and {_OPENEO}SECRET)"
        client_id, secret = os.environ.get(f"{_OPENEO}ID") or None, os.environ.get(f"{_OPENEO}SECRET") or None
    with _told(backend, missing=_NO_CLIENT if client_id else f"{names} are not set"):
        provider_id, client = connection.oidc_client(client_id, secret)

    def get() -> Token:
        with _told(backend, refused=f"{names} were refused"), TokenSession() as session:
            tokens = OidcClientCredentialsAuthenticator(client, requests_session=session).get_tokens()
        return Token.of_provider(provider_id, tokens)

    return get


def refresh_token(connection: LoginConnection) -> Source:
    """A refresh token from the environment, or the one that is kept."""
    backend = connection.backend
    given = backend.secret("REFRESH_TOKEN")
    if given is None:
        return kept_refresh_token(connection)
    provider_id, client = _client(connection, refreshable)
    current = [given]

    def get() -> Token:
        with _told(backend, refused=f"{backend.variable('REFRESH_TOKEN')} was refused"):
            tokens = _refresh(client, current[0])
        current[0] = tokens.refresh_token or current[0]
        return Token.of_provider(provider_id, tokens)

    return get


def oidc(connection: LoginConnection) -> Source:
    """As `Connection.authenticate_oidc` does, but nobody is waited for: there is no device flow in a worker."""
    method = os.environ.get("OPENEO_AUTH_METHOD")
    if method == "client_credentials":
        return client_credentials(connection)
    if method:
        raise LoginFailed(f"{_where(connection.backend)}; OPENEO_AUTH_METHOD: there is no {method!r}")
    return kept_refresh_token(connection)


def kept_refresh_token(connection: LoginConnection) -> Source:
    """The refresh token in the openEO client's own store, read and written anew each time: processes share it."""
    backend = connection.backend
    provider_id, client = _client(connection, for_people)
    issuer, client_id = client.provider.issuer, client.client_id

    def get() -> Token:
        refused = f"the refresh token that is kept was refused; {LOGIN_COMMAND} gets a new one"
        with _told(backend, refused=refused), kept_refresh_tokens() as store:
            kept = store.get_refresh_token(issuer=issuer, client_id=client_id)
            if not kept:
                raise LoginFailed(f"{_where(backend)}; nobody has logged in here yet: {LOGIN_COMMAND} does it")
            tokens = _refresh(client, kept)
            if tokens.refresh_token not in {None, kept}:
                store.set_refresh_token(issuer=issuer, client_id=client_id, refresh_token=tokens.refresh_token)
        return Token.of_provider(provider_id, tokens)

    return get


def custom(connection: LoginConnection) -> Source:
    """The campaign file's `authenticate(connection, provider)`."""
    backend, hooks = connection.backend, connection.hooks
    if hooks is None or hooks.authenticate is None:
        raise LoginFailed(f"{_where(backend)}; no campaign file with an `authenticate` is enqueued for it")
    authenticate = hooks.authenticate

    def get() -> Token:
        try:
            authenticate(connection=connection, provider=backend.name)
        except FleetError:
            raise
        except (Exception, SystemExit) as error:
            text = f"{_where(backend)}; authenticate raised in {hooks.where(error)}"
            raise (LoginUnavailable if _passes(error) else LoginFailed)(_line(text)) from error
        return Token.of(connection.auth)

    return get


WAYS: Mapping[Auth, Callable[[LoginConnection], Source]] = {
    "basic": basic,
    "client_credentials": client_credentials,
    "refresh_token": refresh_token,
    "oidc": oidc,
    "custom": custom,
}
"""By `Backend.auth`; `none` needs none."""


def _names(backend: Backend, *names: str) -> str:
    return " and ".join(backend.variable(name) for name in names)


def _where(backend: Backend) -> str:
    return f"back-end {backend.name}: cannot log in"


def _client(connection: LoginConnection, default: Callable[..., bool]) -> tuple[str, OidcClientInfo]:
    """The provider and the client that a refresh token belongs to."""
    backend = connection.backend
    client_id = backend.secret("CLIENT_ID")
    with _told(backend, missing=_NO_CLIENT if client_id else f"{backend.variable('CLIENT_ID')} is not set"):
        return connection.oidc_client(client_id, backend.secret("CLIENT_SECRET"), default)


def _refresh(client: OidcClientInfo, token: str) -> AccessTokenResult:
    with TokenSession() as session:
        return OidcRefreshTokenAuthenticator(client, refresh_token=token, requests_session=session).get_tokens()


@contextmanager
def _told(backend: Backend, *, missing: str = "it is not as it should be", refused: str = "refused") -> Iterator[None]:
    """Tell credentials that are wrong (`refused`) or not there (`missing`) from servers in trouble.

    Raises:
        LoginFailed: the credentials are to blame.
        LoginUnavailable: the identity provider does not do as it should.
    """
    try:
        yield
    except LoginFailed:
        raise
    except (OpenEoClientException, OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        told = _made_of(error, backend, missing, refused)
        if told is None:
            raise
        raise told from error


def _made_of(error: Exception, backend: Backend, missing: str, refused: str) -> Exception | None:
    """What to raise for `error`; None if it says itself what is wrong."""
    if isinstance(error.__cause__, TokenRefused):
        return LoginFailed(_line(f"{_where(backend)}; {refused} ({error.__cause__})"))
    if isinstance(error, OpenEoApiPlainError):
        return LoginFailed(f"{_where(backend)}; {refused}") if error.http_status_code in REFUSALS else None
    if isinstance(error, requests.RequestException):
        return _unavailable(backend, error) if isinstance(error, ValueError) else None
    if isinstance(error, OpenEoClientException) and not isinstance(error, OidcException):
        return LoginFailed(_line(f"{_where(backend)}; {missing}: {error}"))
    if isinstance(error, (OSError, RuntimeError)):
        return LoginFailed(_line(f"{_where(backend)}; the openEO client's files cannot be used: {error}"))
    return _unavailable(backend, error)


def _unavailable(backend: Backend, error: Exception) -> LoginUnavailable:
    cause = error.__cause__ or error
    why = str(cause) if isinstance(cause, requests.HTTPError) else f"{type(cause).__name__}: {cause}"
    return LoginUnavailable(_line(f"{_where(backend)} now, its identity provider does not answer as it should: {why}"))


def _passes(error: BaseException) -> bool:
    """Whether what a user's function raised says that somebody's server is in trouble."""
    chain: list[Any] = [error, error.__cause__]
    status = max((getattr(link, "http_status_code", 0) or 0 for link in chain), default=0)
    return status >= requests.codes.server_error or any(
        isinstance(link, (requests.ConnectionError, requests.Timeout)) for link in chain
    )


def _line(text: str) -> str:
    return " ".join(scrub(text).split())
