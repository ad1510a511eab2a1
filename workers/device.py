"""Lets somebody at a terminal log in by a device code, and keeps the refresh token that comes of it.

`python -P -m workers.device BACKENDS` takes a JSON list of back-ends; it shows where to go, and ends with 1 if a login
failed. The refresh tokens are kept in the openEO client's own store.
"""

from __future__ import annotations

import json
import sys

import requests
from openeo.rest import OpenEoClientException
from openeo.rest.auth.oidc import OidcDeviceAuthenticator

from campaign.backends import Backend
from workers.backend import job_pages
from workers.connection import FleetConnection, connect
from workers.failures import LoginFailed, clean
from workers.tokens import for_people, keep_refresh_token

_CANNOT = (OpenEoClientException, requests.RequestException, OSError, RuntimeError, ValueError, LookupError)


def log_in(backend: Backend) -> None:
    """Show where to go with which code, wait until somebody was there, keep the token, and try it.

    Raises:
        LoginFailed: the provider gave no refresh token.
    """
    connection = FleetConnection(backend)
    _, client = connection.oidc_client(backend.secret("CLIENT_ID"), backend.secret("CLIENT_SECRET"), for_people)
    with requests.Session() as session:
        tokens = OidcDeviceAuthenticator(client, display=_show, requests_session=session).get_tokens(
            request_refresh_token=True
        )
    if not tokens.refresh_token:
        raise LoginFailed("the identity provider gave no refresh token: workers could not log in with it")
    path = keep_refresh_token(client, tokens.refresh_token)
    next(job_pages(connect(backend)), None)
    print(f"back-end {backend.name}: logged in; the refresh token is in {path}", flush=True)  # noqa: T201


def _show(text: str, end: str = "\n") -> None:
    """What the client has to say; how far it is only where somebody sees it."""
    if end == "\n" and text:
        print(text, flush=True)  # noqa: T201
    elif sys.stdout.isatty():
        print(text, end=end, flush=True)  # noqa: T201


def main() -> None:
    """Log in to each back-end that the command line has."""
    failed = False
    for fields in json.loads(sys.argv[1]):
        backend = Backend(**fields)
        try:
            log_in(backend)
        except _CANNOT as error:
            failed = True
            said = " ".join(clean(str(error)).split()) or type(error).__name__
            print(f"error: back-end {backend.name} ({backend.url}): {said}", file=sys.stderr)  # noqa: T201
        except KeyboardInterrupt:
            sys.exit(130)
    sys.exit(failed)


if __name__ == "__main__":
    main()
