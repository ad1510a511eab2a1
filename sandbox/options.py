"""What the program is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.behaviour import Behaviour

if TYPE_CHECKING:
    from pathlib import Path

#: Path of the API below the server's root.
API_PATH = "/openeo/1.2"


@dataclass(frozen=True)
class Options:
    """Options of one back-end."""

    data: Path
    """Folder of the job database, the results and the key of the tokens."""
    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free port."""
    parallel: int = 2
    """Jobs that run at the same time: the back-end's slots."""
    executors: int = 2
    """Processes that execute them."""
    users: dict[str, str] = field(default_factory=lambda: {"demo": "demo"})
    """Passwords by user name."""
    clients: dict[str, str] = field(default_factory=dict)
    """Secrets by id of the OIDC clients that may use client credentials."""
    scenes: Path | None = None
    """Folder of real scenes; None generates them."""
    behaviour: Behaviour = field(default_factory=Behaviour)
    foreign_jobs: int = 0
    """Finished jobs of the past that the user (the first client, else the first user) has in a new folder."""
    ready_file: Path | None = None
    """Written when the server answers: JSON with `url` and `pid`."""
    admin_token: str | None = None
    """Bearer of the admin routes; None opens them to loopback only."""
