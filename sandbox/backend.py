"""The back-end as one object: what the routes work with."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.auth import Auth, token_invalid
from sandbox.behaviour import Dice
from sandbox.errors import OpenEOError
from sandbox.foreign import new_jobs, past_jobs
from sandbox.options import API_PATH
from sandbox.pool import Pool
from sandbox.runner import Runner
from sandbox.stats import Stats
from sandbox.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from sandbox.behaviour import Behaviour
    from sandbox.foreign import Wanted
    from sandbox.options import Options

#: How long a request for what only a warm executor knows may wait, s.
_WARM_UP = 60.0


class Backend:
    """Store, executors, runner, credentials and behaviour of one running back-end."""

    def __init__(self, options: Options) -> None:
        options.data.mkdir(parents=True, exist_ok=True)
        self.options = options
        self.behaviour: Behaviour = options.behaviour
        self.dice = Dice()
        self._down_since = time.monotonic()
        self.stats = Stats()
        self.auth = Auth(options)
        self.store = Store(options.data / "jobs.sqlite")
        if options.foreign_jobs:
            self.store.add_past(list(past_jobs(options.foreign_jobs, self.foreign_user, datetime.now(UTC))))
        self.pool = Pool(
            options.executors, str(options.scenes) if options.scenes else None, options.data / "executors.log"
        )
        self.runner = Runner(self.store, self.pool, self.stats, options.data / "jobs", options.parallel)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Executors and runner, from start to stop."""
        self.pool.start()
        self.runner.start(self.behaviour)
        try:
            yield
        finally:
            self.pool.closing()
            await self.runner.close()
            await self.pool.close()
            self.store.close()

    def change(self, changes: dict[str, Any]) -> None:
        """Behave differently from now on.

        Raises:
            OpenEOError: for unknown fields or values that do not fit.
        """
        try:
            self.behaviour = self.behaviour.changed(changes)
        except ValueError as error:
            raise OpenEOError("BadRequest", str(error)) from error
        if "down" in changes:
            self._down_since = time.monotonic()
        self.runner.apply(self.behaviour)
        if "script" in changes:
            self.runner.begin_script()

    @property
    def is_down(self) -> bool:
        """Whether nobody is answered at the moment."""
        return self.behaviour.down < 0 or time.monotonic() - self._down_since < self.behaviour.down

    @property
    def foreign_user(self) -> str:
        """The user who has jobs of other programs: the first client, else the first user."""
        return next(iter([*self.options.clients, *self.options.users]))

    def add_foreign(self, wanted: Wanted) -> list[str]:
        """Another client of a user makes jobs now; their ids."""
        rows = list(new_jobs(wanted))
        with self.store.transaction():
            self.store.add(rows)
            if wanted.status == "queued":
                for row in rows:
                    self.runner.queue(self.store.get(wanted.user, row["id"]))
        return [row["id"] for row in rows]

    def root(self, request: Request) -> str:
        """URL of the API as this client sees it."""
        return f"{str(request.base_url).rstrip('/').removesuffix(API_PATH)}{API_PATH}"

    def user(self, request: Request) -> str:
        """The user of a request's bearer.

        Raises:
            OpenEOError: without one that holds.
        """
        user = self.auth.user_of_header(request.headers.get("authorization"))
        if self.behaviour.revoked:
            raise token_invalid()
        return user

    def user_of_link(self, request: Request) -> str:
        """The user of a signed URL, else of the bearer.

        Raises:
            OpenEOError: when neither holds.
        """
        status = self.behaviour.expired_url_status
        return self.auth.user_of_signature(request.url.path, request.query_params, status) or self.user(request)

    async def processes(self) -> list[str]:
        """Ids of the processes that execute; known once an executor is warm.

        Raises:
            OpenEOError: ServiceUnavailable when none gets warm.
        """
        try:
            await asyncio.wait_for(self.pool.warm.wait(), _WARM_UP)
        except TimeoutError as error:
            raise OpenEOError("ServiceUnavailable", "The executors did not start.") from error
        return self.pool.processes

    @contextlib.asynccontextmanager
    async def synchronous(self, graph: dict[str, Any]) -> AsyncIterator[tuple[Path, dict[str, Any]]]:
        """Execute a graph at once: its folder, which is removed afterwards, and the executor's answer."""
        folder = Path(tempfile.mkdtemp(prefix="result-", dir=self.options.data))
        try:
            yield folder, await self.pool.run(graph, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
