"""publish and finalize: items come into the catalog once, however often they are brought."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pystac
import pytest

from campaign.errors import TransitionLost
from campaign.message import FINALIZE, finalize_message
from campaign.tile import TileStatus
from producer.progress import at_rest
from workers.finalize import finalize, is_stale
from workers.publish import publish
from workers.tick import tick

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.conftest import Fleet

S = TileStatus


def catalog(fleet: Fleet) -> Path:
    return fleet.settings.workdir / "results" / "catalog"


def contents(fleet: Fleet) -> dict[str, bytes]:
    return {str(path.relative_to(catalog(fleet))): path.read_bytes() for path in catalog(fleet).rglob("*.json")}


def published(fleet: Fleet, *tile_ids: str) -> None:
    for tile_id in tile_ids:
        fleet.finished(tile_id)
        fleet.step(tile_id)
        assert fleet.step(tile_id) == []
        assert fleet.tile(tile_id).status is S.PUBLISHED


def finalizing(fleet: Fleet) -> list[Any]:
    return [message for message in tick(fleet.context) if message.task == FINALIZE]


def test_the_item_is_in_the_catalog(fleet: Fleet) -> None:
    published(fleet, "t0")
    tile = fleet.tile()
    assert tile.finished_at < tile.published_at <= fleet.store.now()
    assert (tile.holder, tile.error, fleet.due_in()) == ("", "", None)
    assert list(contents(fleet)) == [f"{fleet.name}/0000/t0.openEO.json"]
    found = json.loads(contents(fleet)[f"{fleet.name}/0000/t0.openEO.json"])
    href = found["assets"]["data"]["href"]
    assert (catalog(fleet) / fleet.name / "0000" / href).resolve() == (fleet.folder / "t0" / "openEO.nc").resolve()


def test_publishing_again_changes_nothing(fleet: Fleet) -> None:
    fleet.finished()
    fleet.step()
    ready = fleet.tile()
    fleet.step()
    first = contents(fleet)
    with pytest.raises(TransitionLost):
        publish(fleet.context, ready)
    assert contents(fleet) == first
    fleet.store.redis.hset(fleet.store.key("c", fleet.name, "t", "t0"), "status", S.POSTPROCESSED)
    publish(fleet.context, fleet.tile())
    assert contents(fleet) == first


def test_publishing_what_another_worker_holds_does_nothing(fleet: Fleet) -> None:
    fleet.finished()
    fleet.step()
    held = fleet.store.claim(fleet.tile(), 60)
    with pytest.raises(TransitionLost):
        publish(fleet.context, fleet.tile())
    assert fleet.tile() == held
    assert contents(fleet) == {}


def test_every_item_of_a_tile_is_published(fleet: Fleet) -> None:
    fleet.finished()
    fleet.results("t0", {"a.csv": b"a\n1\n", "b.csv": b"b\n2\n"})
    fleet.step()
    fleet.step()
    assert sorted(contents(fleet)) == [f"{fleet.name}/0000/t0.{name}.json" for name in "ab"]


def test_an_item_that_is_gone_fails_its_tile_only(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some tries: the file may be on a network share that is away."""
    monkeypatch.setattr("workers.setbacks.MAX_TRIES", 2)
    for tile_id in ("t0", "t1"):
        fleet.finished(tile_id)
        fleet.step(tile_id)
    (fleet.folder / "t0" / "t0.openEO.stac.json").unlink()
    fleet.step("t0")
    fleet.step("t1")
    assert (fleet.tile("t0").status, fleet.tile("t0").tries) == (S.POSTPROCESSED, 1)
    fleet.step("t0")
    assert (fleet.tile("t0").status, fleet.tile("t0").failed_step) == (S.FAILED, "publish")
    assert "t0.openEO.stac.json" in fleet.tile("t0").error
    assert fleet.tile("t1").status is S.PUBLISHED


def test_finalize_makes_a_catalog_that_can_be_walked(fleet: Fleet) -> None:
    published(fleet, "t0", "t1")
    finalize(fleet.context, fleet.name)
    found = pystac.Catalog.from_file(str(catalog(fleet) / "catalog.json"))
    assert sorted(item.id for item in found.get_items(recursive=True)) == ["t0.openEO", "t1.openEO"]
    (collection,) = found.get_children()
    assert isinstance(collection, pystac.Collection)
    assert collection.id == fleet.name
    assert collection.extent.spatial.bboxes[0] == pytest.approx([4, 51, 4.2, 51.1], abs=0.02)
    first = contents(fleet)
    finalize(fleet.context, fleet.name)
    assert contents(fleet) == first


def test_a_stale_catalog_is_noticed_once(fleet: Fleet) -> None:
    assert not is_stale(fleet.context, fleet.name)
    published(fleet, "t0")
    assert finalizing(fleet) == [finalize_message(fleet.name)]
    assert finalizing(fleet) == []
    finalize(fleet.context, fleet.name)
    assert finalizing(fleet) == []


def test_a_request_that_came_to_nothing_is_made_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    published(fleet, "t0")
    assert finalizing(fleet)
    monkeypatch.setattr("workers.finalize.EVERY", 0.0)
    monkeypatch.setattr("workers.finalize.TILES_PER_SECOND", 1e9)
    assert finalizing(fleet)


def test_a_campaign_that_came_to_rest_does_not_wait(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=2)
    published(fleet, "t0")
    assert finalizing(fleet)
    published(fleet, "t1")
    assert not at_rest(fleet.store, fleet.name, fleet.store.counts(fleet.name))
    assert finalizing(fleet)
    finalize(fleet.context, fleet.name)
    assert at_rest(fleet.store, fleet.name, fleet.store.counts(fleet.name))
    assert finalizing(fleet) == []


def test_nothing_published_is_nothing_to_finalize(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(tiles=1)
    fleet.start_with(lambda **_: None)
    fleet.step()
    assert finalizing(fleet) == []
    assert at_rest(fleet.store, fleet.name, fleet.store.counts(fleet.name))


def test_tiles_published_while_the_catalog_is_built_are_not_forgotten(
    make_fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = make_fleet(tiles=2)
    published(fleet, "t0")
    build = type(fleet.context).meta

    def meanwhile(context: Any, name: str) -> Any:
        monkeypatch.undo()
        published(fleet, "t1")
        return build(context, name)

    monkeypatch.setattr("workers.context.Context.meta", meanwhile)
    monkeypatch.setenv("FLEET_LOCAL_USERNAME", "demo")
    finalize(fleet.context, fleet.name)
    assert fleet.store.catalog_state(fleet.name)["published"] == 1
    assert finalizing(fleet)
