"""login: somebody at a terminal logs in to back-ends, in a process that has the openEO client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from campaign.errors import InvalidInput

if TYPE_CHECKING:
    from campaign.backends import Backend
    from campaign.spec import CampaignFile


def login(file: CampaignFile) -> int:
    """Log in to the back-ends of a campaign that take a refresh token which is kept on this machine.

    Returns:
        The exit code: 0 if all went well.

    Raises:
        InvalidInput: none of them does.
    """
    backends = [backend for backend in file.backends if takes_kept_token(backend)]
    if not backends:
        ways = ", ".join(f"{backend.name}: {backend.auth}" for backend in file.backends)
        raise InvalidInput(f"{file.path.name}: no back-end takes a login of yours ({ways}); auth='oidc' does")
    asked = json.dumps([backend.model_dump() for backend in backends])
    done = subprocess.run([sys.executable, "-P", "-m", "workers.device", asked], check=False)  # noqa: S603  (our own module)
    return done.returncode


def takes_kept_token(backend: Backend) -> bool:
    """Whether workers log in to a back-end with the refresh token that a login leaves."""
    if backend.auth == "refresh_token":
        return backend.secret("REFRESH_TOKEN") is None
    return backend.auth == "oidc" and not os.environ.get("OPENEO_AUTH_METHOD")
