"""Tokens: what they are, how long they hold, who gives them, and where refresh tokens are kept."""

from __future__ import annotations

import base64
import fcntl
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from openeo.rest.auth.auth import BearerAuth, NullAuth, OidcBearerAuth
from openeo.rest.auth.config import RefreshTokenStore
from openeo.rest.auth.oidc import DefaultOidcClientGrant

from campaign.secrets import keep_secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openeo.rest.auth.oidc import AccessTokenResult, OidcClientInfo
    from requests.auth import AuthBase

_SECONDS_TO_ANSWER = 30.0
REFUSALS = (400, 401, 403)
"""What is answered to credentials that are wrong; all else is the server's trouble, not theirs."""

_PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
"""Error codes (RFC 6749) that do not blame the credentials, whatever the status."""

_PARTS_OF_A_JWT = 3
_DEVICE_GRANTS = {DefaultOidcClientGrant.DEVICE_CODE, DefaultOidcClientGrant.DEVICE_CODE_PKCE}


@dataclass(frozen=True)
class Token:
    """What requests are authenticated with."""

    auth: AuthBase = field(default_factory=NullAuth, repr=False)
    seconds: float | None = None
    """How long it holds, where that is known."""

    @classmethod
    def of(cls, auth: AuthBase | None) -> Token:
        """What a connection was left with; how long it holds if it says so itself."""
        text = auth.bearer.rsplit("/", 1)[-1] if isinstance(auth, BearerAuth) else ""
        keep_secret(text)
        return cls(auth or NullAuth(), seconds_left(text))

    @classmethod
    def of_provider(cls, provider_id: str, tokens: AccessTokenResult) -> Token:
        """What an identity provider gave."""
        keep_secret(tokens.refresh_token or "")
        token = cls.of(OidcBearerAuth(provider_id=provider_id, access_token=tokens.access_token))
        announced = tokens.expires_in
        return cls(token.auth, float(announced)) if isinstance(announced, (int, float)) and announced > 0 else token


def seconds_left(token: str) -> float | None:
    """How long a JWT still holds by its `exp`, which is not verified; None where it is none, or does not say."""
    parts = token.split(".")
    if len(parts) != _PARTS_OF_A_JWT:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return max(0.0, float(claims["exp"]) - time.time())
    except (ValueError, TypeError, KeyError):
        return None


class TokenRefused(requests.RequestException):
    """An identity provider says that what it was given is wrong; the text is its error code."""


class TokenSession(requests.Session):
    """For one request to a token endpoint: it ends in time, and its secrets are not sent on to anywhere else."""

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        """Send it.

        Raises:
            TokenRefused: the credentials are wrong.
            requests.RequestException: anything else than a token came.
        """
        response = super().request(*arguments, **options | {"timeout": _SECONDS_TO_ANSWER, "allow_redirects": False})
        if response.status_code == requests.codes.ok:
            return response
        code = _error_code(response)
        if response.status_code in REFUSALS and code not in _PASSING:
            raise TokenRefused(code or f"HTTP {response.status_code}", response=response)
        raise requests.HTTPError(f"HTTP {response.status_code}", response=response)


def _error_code(response: requests.Response) -> str:
    try:
        answer = response.json()
    except requests.JSONDecodeError:
        return ""
    return str(answer.get("error", ""))[:40] if isinstance(answer, dict) else ""


@contextmanager
def kept_refresh_tokens() -> Iterator[RefreshTokenStore]:
    """The openEO client's own store of refresh tokens, for one process at a time: a token may hold only once."""
    store = RefreshTokenStore()
    with store.path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield store


def refreshable(grants: list[DefaultOidcClientGrant]) -> bool:
    """Whether a provider's default client takes refresh tokens."""
    return DefaultOidcClientGrant.REFRESH_TOKEN in grants


def for_people(grants: list[DefaultOidcClientGrant]) -> bool:
    """Whether it is one that people log in with and are remembered by: the one that the openEO client takes."""
    return refreshable(grants) and not _DEVICE_GRANTS.isdisjoint(grants)


def keep_refresh_token(client: OidcClientInfo, token: str) -> Path:
    """Put the refresh token of a client into the store; returns where that is."""
    with kept_refresh_tokens() as store:
        store.set_refresh_token(issuer=client.provider.issuer, client_id=client.client_id, refresh_token=token)
        return Path(store.path)
