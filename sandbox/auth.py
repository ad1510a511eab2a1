"""Who is asking: users, access tokens, signed URLs. Tokens carry themselves, so a restart forgets nobody."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode

from sandbox.errors import OpenEOError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sandbox.options import Options

PROVIDER = "sandbox"
ACCESS, REFRESH, DEVICE = "access", "refresh", "device"
_DAY = 86_400.0
_MONTH = 30 * _DAY
_BEARER_PARTS = 3
_HEADER = {"alg": "HS256", "typ": "JWT"}


class Auth:
    """Checks and makes credentials of one back-end."""

    def __init__(self, options: Options) -> None:
        self.users, self.clients = options.users, options.clients
        self._key = _secret_key(options.data / "token.key")
        self._used: set[str] = set()

    def password_fits(self, user: str, password: str) -> bool:
        """Whether a user's password is right."""
        return hmac.compare_digest(self.users.get(user, "").encode(), password.encode()) and user in self.users

    def client_fits(self, client: str, secret: str) -> bool:
        """Whether an OIDC client's secret is right."""
        return hmac.compare_digest(self.clients.get(client, "").encode(), secret.encode()) and client in self.clients

    def issue(self, user: str, kind: str, seconds: float = 0.0) -> str:
        """A token of a kind for a user, a JWT as real providers give; by default a day of access, a month of refreshing."""
        lifetime = seconds or (_MONTH if kind == REFRESH else _DAY)
        claims = {"sub": user, "use": kind, "exp": round(time.time() + lifetime, 3), "jti": secrets.token_hex(4)}
        signed = ".".join(_text(json.dumps(part).encode()) for part in (_HEADER, claims))
        return f"{signed}.{_text(self._sign(signed.encode()))}"

    def read(self, token: str, kind: str) -> str | None:
        """The user of a token, or None if it is forged, expired, used up or of another kind."""
        claims = self._claims(token)
        if claims.get("use") != kind or claims["exp"] <= time.time() or claims["jti"] in self._used:
            return None
        return str(claims["sub"])

    def use_up(self, token: str) -> None:
        """Have a token hold no more."""
        self._used.add(str(self._claims(token).get("jti")))

    def _claims(self, token: str) -> dict[str, Any]:
        """What a token says; nothing if it is forged."""
        parts = token.split(".")
        try:
            _, payload, signature = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts)
        except (ValueError, binascii.Error):
            return {}
        if not hmac.compare_digest(signature, self._sign(".".join(parts[:-1]).encode())):
            return {}
        claims: dict[str, Any] = json.loads(payload)
        return claims

    def user_of_header(self, header: str | None) -> str:
        """The user of an Authorization header, `Bearer basic//TOKEN` or `Bearer oidc/PROVIDER/TOKEN`.

        Raises:
            OpenEOError: without a header, for an unknown scheme, for a token that does not hold (any more).
        """
        if not header:
            raise OpenEOError("AuthenticationRequired", "Unauthorized.")
        scheme, _, bearer = header.partition(" ")
        parts = bearer.split("/", _BEARER_PARTS - 1)
        if scheme.lower() != "bearer" or len(parts) != _BEARER_PARTS or parts[0] not in {"basic", "oidc"}:
            raise OpenEOError("AuthenticationSchemeInvalid", "Authentication method not supported.")
        user = self.read(parts[2], ACCESS)
        if user is None:
            raise token_invalid()
        return user

    def user_of_basic(self, header: str | None) -> str:
        """The user of a header with HTTP basic credentials.

        Raises:
            OpenEOError: without them, or when they are wrong.
        """
        if not header or not header.lower().startswith("basic "):
            raise OpenEOError("AuthenticationRequired", "Unauthorized.")
        try:
            user, _, password = base64.b64decode(header[6:]).decode().partition(":")
        except (ValueError, binascii.Error) as error:
            raise OpenEOError("CredentialsInvalid", "Credentials are not correct.") from error
        if not self.password_fits(user, password):
            raise OpenEOError("CredentialsInvalid", "Credentials are not correct.")
        return user

    def signed(self, url: str, path: str, user: str, seconds: float) -> str:
        """A URL that needs no bearer for a while; `path` is its path on this server."""
        expires = f"{time.time() + seconds:.3f}"
        return f"{url}?{urlencode({'user': user, 'expires': expires, 'signature': self._url_signature(path, user, expires)})}"

    def user_of_signature(self, path: str, query: Mapping[str, Any], expired_status: int) -> str | None:
        """The user a signed URL stands for; None if the query has no signature.

        Raises:
            OpenEOError: when the signature is wrong or has expired.
        """
        if "signature" not in query:
            return None
        user, expires = str(query.get("user")), str(query.get("expires"))
        if not hmac.compare_digest(self._url_signature(path, user, expires), str(query["signature"])):
            raise OpenEOError("CredentialsInvalid", "The signature of the URL is not correct.")
        if float(expires) < time.time():
            raise OpenEOError(
                "ResultLinkExpired", "The link to the batch job result has expired.", status=expired_status
            )
        return user

    def _url_signature(self, path: str, user: str, expires: str) -> str:
        return self._sign(f"{unquote(path)}|{user}|{expires}".encode()).hex()

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, "sha256")


def token_invalid() -> OpenEOError:
    """The error of a token that does not hold (any more)."""
    return OpenEOError("TokenInvalid", "Authorization token has expired or is invalid. Please authenticate again.")


def _secret_key(path: Path) -> bytes:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
