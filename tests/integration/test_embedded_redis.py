"""The embedded Redis: kept on disk, one per folder whoever asks, taken over by `run`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import redis

from producer.embedded_redis import EmbeddedRedis, embedded_redis, running_url, socket_path

if TYPE_CHECKING:
    from pathlib import Path


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def test_what_was_written_is_there_the_next_time(tmp_path: Path) -> None:
    with embedded_redis(tmp_path) as url, client(url) as first:
        first.set("a", "1")
    assert running_url(tmp_path) is None
    with embedded_redis(tmp_path) as url, client(url) as second:
        assert second.get("a") == "1"


def test_only_its_user_may_reach_it(tmp_path: Path) -> None:
    with embedded_redis(tmp_path) as url, client(url) as connected:
        assert connected.config_get("port") == {"port": "0"}
        assert connected.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert socket_path(tmp_path).stat().st_mode & 0o077 == 0
        assert (tmp_path / "redis").stat().st_mode & 0o077 == 0


def test_many_at_once_share_one_server(tmp_path: Path) -> None:
    def server_of(_: int) -> int:
        with embedded_redis(tmp_path) as url, client(url) as connected:
            pid = int(connected.info("server")["process_id"])
            connected.incr("asked")
            return pid

    with embedded_redis(tmp_path) as url, ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(server_of, range(24)))) == 1
        with client(url) as connected:
            assert connected.get("asked") == "24"


def test_one_that_runs_is_taken_over(tmp_path: Path) -> None:
    with embedded_redis(tmp_path) as url, client(url) as before:
        before.set("a", "1")
        old = before.info("server")["process_id"]
        with embedded_redis(tmp_path, own=True) as same, client(same) as after:
            assert same == url
            assert after.get("a") == "1"
            assert after.info("server")["process_id"] != old


def test_one_that_ended_is_started_again_with_all_it_had(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    with client(server.url) as before:
        before.set("a", "1")
    server.look_after()
    first = server.process
    assert first is not None
    assert first.poll() is None
    first.terminate()
    first.wait()
    server.look_after()
    assert server.process is not first
    with client(server.url) as after:
        assert after.get("a") == "1"
    server.stop()


def test_long_paths_are_no_trouble(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90) / ("y" * 90)
    deep.mkdir(parents=True)
    with embedded_redis(deep) as url, client(url) as connected:
        assert connected.ping()
    assert not socket_path(deep).exists()


def test_missing_server_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.embedded_redis.find_spec", lambda _: None)
    monkeypatch.setattr("producer.embedded_redis.shutil.which", lambda _: None)
    with pytest.raises(Exception, match="FLEET_REDIS_URL"), embedded_redis(tmp_path):
        pass
