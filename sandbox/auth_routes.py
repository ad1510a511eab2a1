"""Routes to log in: HTTP basic, and the back-end's own OpenID Connect provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.auth import ACCESS, DEVICE, PROVIDER, REFRESH
from sandbox.errors import OpenEOError

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.backend import Backend

_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_GRANTS = ["client_credentials", "refresh_token", "password", _DEVICE_GRANT]
#: Public client for people: device code and refresh token.
_PUBLIC_CLIENT = "sandbox-default-client"
_DAY = 86_400


def login_routes(backend: Backend) -> list[Route]:
    """Below the API: `/credentials/*` and `/me`."""
    routes = _Login(backend)
    return [
        Route("/credentials/basic", routes.basic),
        Route("/credentials/oidc", routes.oidc),
        Route("/me", routes.me),
    ]


def provider_routes(backend: Backend) -> list[Route]:
    """Below `/oidc`: the provider."""
    routes = _Provider(backend)
    return [
        Route("/.well-known/openid-configuration", routes.configuration),
        Route("/token", routes.token, methods=["POST"]),
        Route("/device", routes.device, methods=["POST"]),
        Route("/userinfo", routes.user_info),
    ]


class _Login:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def basic(self, request: Request) -> Response:
        user = self._backend.auth.user_of_basic(request.headers.get("authorization"))
        if self._backend.behaviour.revoked:
            raise OpenEOError("CredentialsInvalid", "Credentials are not correct.")
        token = self._backend.auth.issue(user, ACCESS, self._backend.behaviour.token_seconds)
        return JSONResponse({"access_token": token})

    async def oidc(self, request: Request) -> Response:
        provider = {
            "id": PROVIDER,
            "issuer": _issuer(request),
            "title": "openEO sandbox",
            "scopes": ["openid", "email"],
            "default_clients": [
                {"id": _PUBLIC_CLIENT, "grant_types": [_DEVICE_GRANT, f"{_DEVICE_GRANT}+pkce", "refresh_token"]},
            ],
        }
        return JSONResponse({"providers": [provider]})

    async def me(self, request: Request) -> Response:
        user = self._backend.user(request)
        left = self._backend.behaviour.credits
        budget = None if left < 0 else max(0.0, left - self._backend.store.spent(user))
        return JSONResponse({"user_id": user, "name": user, "default_plan": "free", "budget": budget})


class _Provider:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def configuration(self, request: Request) -> Response:
        issuer = _issuer(request)
        return JSONResponse(
            {
                "issuer": issuer,
                "token_endpoint": f"{issuer}/token",
                "device_authorization_endpoint": f"{issuer}/device",
                "userinfo_endpoint": f"{issuer}/userinfo",
                "scopes_supported": ["openid", "email", "offline_access"],
                "grant_types_supported": _GRANTS,
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def device(self, request: Request) -> Response:
        """A device code that is approved already, for the first user: nobody is here to click."""
        user = next(iter(self._backend.auth.users), "demo")
        return JSONResponse(
            {
                "device_code": self._backend.auth.issue(user, DEVICE, 300.0),
                "user_code": "SANDBOX",
                "verification_uri": f"{_issuer(request)}/device",
                "interval": 1,
                "expires_in": 300,
            }
        )

    async def token(self, request: Request) -> Response:
        form = {key: values[0] for key, values in parse_qs((await request.body()).decode()).items()}
        behaviour = self._backend.behaviour
        if behaviour.revoked:
            return JSONResponse({"error": "invalid_client"}, 401)
        if self._backend.dice.throw("provider_errors", behaviour.provider_errors, behaviour.seed):
            return JSONResponse({"error": "temporarily_unavailable"}, 503)
        user = self._user_of_grant(form)
        if user is None:
            known = form.get("grant_type") in _GRANTS
            error = "invalid_grant" if known else "unsupported_grant_type"
            status = 401 if form.get("grant_type") == "client_credentials" else 400
            return JSONResponse({"error": "invalid_client" if status != 400 else error}, status)  # noqa: PLR2004 - HTTP
        if form["grant_type"] == "refresh_token" and behaviour.single_use_refresh_tokens:
            self._backend.auth.use_up(form["refresh_token"])
        lifetime = behaviour.token_seconds
        answer: dict[str, Any] = {
            "access_token": self._backend.auth.issue(user, ACCESS, lifetime),
            "token_type": "Bearer",
            "expires_in": int(lifetime or _DAY),
            "scope": "openid",
        }
        if form["grant_type"] != "client_credentials":
            answer["refresh_token"] = self._backend.auth.issue(user, REFRESH)
        return JSONResponse(answer)

    async def user_info(self, request: Request) -> Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        user = None if self._backend.behaviour.revoked else self._backend.auth.read(bearer, ACCESS)
        return JSONResponse({"sub": user}) if user else JSONResponse({"error": "invalid_token"}, 401)

    def _user_of_grant(self, form: dict[str, str]) -> str | None:
        """Who a token request speaks for (RFC 6749, RFC 8628); None if it does not hold."""
        auth, grant = self._backend.auth, form.get("grant_type")
        if grant == "client_credentials":
            client = form.get("client_id", "")
            return client if auth.client_fits(client, form.get("client_secret", "")) else None
        if grant == "password":
            user = form.get("username", "")
            return user if auth.password_fits(user, form.get("password", "")) else None
        if grant == "refresh_token":
            return auth.read(form.get("refresh_token", ""), REFRESH)
        return auth.read(form.get("device_code", ""), DEVICE) if grant == _DEVICE_GRANT else None


def _issuer(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}/oidc"
