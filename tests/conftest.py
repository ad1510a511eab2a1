"""Servers that tests share: each on a free loopback port or a socket of its own, and gone when the tests are."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from campaign.store import TileStore
from producer.embedded_redis import embedded_redis

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis for this test process."""
    with embedded_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def store(redis_url: str) -> Iterator[TileStore]:
    """An empty store: a namespace nobody else has."""
    store = TileStore.connect(redis_url, f"test-{uuid.uuid4().hex[:12]}")
    yield store
    if keys := list(store.redis.scan_iter(f"{store.namespace}:*", count=10_000)):
        store.redis.delete(*keys)
    store.redis.close()
