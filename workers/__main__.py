"""`python -P -m workers worker|beat|flower ...`: Celery's command line for our app, and for nothing else.

Celery's own `celery --app workers.app` looks for modules in the current folder first, where a user's file may well be
called campaign.py; `-P` keeps that folder out of Python's path.
"""

from __future__ import annotations

import os
import sys

import click

from campaign.errors import InvalidInput
from campaign.settings import read_settings

EXIT_WRONG_INPUT = 2

_OF_CELERY = ("APP", "BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE")
"""Environment variables that would turn Celery's command line to another app or broker."""


def main() -> int:
    """Start what the command line says; returns its exit code."""
    try:
        settings = read_settings()
    except InvalidInput as error:
        return _refuse(str(error))
    if not settings.redis_url:
        return _refuse("FLEET_REDIS_URL is not set: a worker has to know where the fleet's Redis is")
    for name in (*_OF_CELERY, *(name for name in os.environ if name.startswith("CELERY_"))):
        os.environ.pop(name, None)
    import workers.tasks  # noqa: F401, PLC0415  (now: Celery itself would look into the current folder first)
    from workers.app import app  # noqa: PLC0415  (reads the settings)

    try:
        return int(app.start(["--quiet", *sys.argv[1:]]) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code


def _refuse(why: str) -> int:
    click.echo(f"error: {why}", err=True)
    return EXIT_WRONG_INPUT


if __name__ == "__main__":
    sys.exit(main())
