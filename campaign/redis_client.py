"""A Redis client whose lost connections are `StoreUnavailable`, after it tried for a while to get them back."""

from __future__ import annotations

from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.client import Pipeline
from redis.retry import Retry

from campaign.errors import InvalidInput, StoreUnavailable

LOST = (redis.ConnectionError, redis.TimeoutError)
"""What redis-py raises when the server does not answer any more."""

_RETRIES = 8
"""With the waits below about 8 s: a server that restarts comes back within them."""


class _Pipeline(Pipeline):
    def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002  (redis-py's)
        try:
            return super().execute(raise_on_error)
        except LOST as error:
            raise StoreUnavailable(f"Redis does not answer: {error}") from error


class Client(redis.Redis):
    """redis-py's client."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except LOST as error:
            raise StoreUnavailable(f"Redis does not answer: {error}") from error

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001, FBT002
        """Many commands in one round trip."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def connect(url: str) -> Client:
    """A client for the Redis at `url`, which is asked for an answer.

    Raises:
        InvalidInput: `url` is no Redis URL.
        StoreUnavailable: no answer, or the password is refused.
    """
    keep_alive = {} if url.startswith("unix://") else {"socket_keepalive": True}
    try:
        client: Any = Client.from_url(
            url,
            **keep_alive,
            health_check_interval=30,
            socket_connect_timeout=5,
            socket_timeout=30,
            retry=Retry(ExponentialBackoff(cap=2, base=0.05), _RETRIES),
        )
    except ValueError as error:
        raise InvalidInput("FLEET_REDIS_URL: has to be redis://, rediss:// or unix://") from error
    try:
        client.ping()
    except (redis.RedisError, StoreUnavailable) as error:
        raise StoreUnavailable(f"{error}; check FLEET_REDIS_URL") from error
    return cast("Client", client)
