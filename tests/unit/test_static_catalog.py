"""A static catalog as pystac reads it, written by many processes at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pystac
import pystac.validation
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign.errors import InvalidInput
from workers import static_catalog
from workers.schemas import validate_item
from workers.static_catalog import ITEMS_PER_SHARD, CollectionInfo, StaticCatalog, Summary

INFO = CollectionInfo(
    id="demo",
    title="NDVI of Antwerp",
    description="Monthly NDVI.",
    license="CC-BY-4.0",
    keywords=("ndvi",),
    providers=({"name": "Terra", "roles": ["producer"]},),
)


def an_item(number: int, **changes: Any) -> dict[str, Any]:
    west, south = number % 300 - 150.0, number % 100 - 50.0
    ring = [[west, south], [west + 1, south], [west + 1, south + 1], [west, south + 1], [west, south]]
    time = f"2023-05-{number % 28 + 1:02d}T00:00:00Z"
    properties = {
        "datetime": time,
        "start_datetime": time,
        "end_datetime": time,
        "proj:code": f"EPSG:{32631 + number % 2}",
    }
    band = {
        "name": "NDVI",
        "data_type": "float32",
        "nodata": "nan",
        "statistics": {"minimum": number, "maximum": number},
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": f"tile-{number:06d}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, west + 1, south + 1],
        "properties": properties,
        "links": [{"rel": "collection", "href": "../collection.json"}, {"rel": "via", "href": "https://o.example/jobs/1"}],
        "assets": {"data": {"href": "https://o.example/a.tif", "type": "image/tiff", "roles": ["data"], "bands": [band]}},
        "collection": "demo",
    } | changes  # fmt: skip


@pytest.fixture
def catalog(tmp_path: Path) -> StaticCatalog:
    return StaticCatalog(tmp_path / "out", INFO)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def collection_of(catalog: StaticCatalog) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((catalog.folder / "collection.json").read_text())
    return found


def read(catalog: StaticCatalog) -> pystac.Catalog:
    return pystac.Catalog.from_file(catalog.root / "catalog.json")


class TestPystac:
    def test_walks_and_validates_everything(self, catalog: StaticCatalog) -> None:
        for number in range(7):
            catalog.put(an_item(number), number // 3)
        assert catalog.finalize() == Summary(items=7, shards=3)
        root = read(catalog)
        (collection,) = root.get_children()
        assert [shard.id for shard in collection.get_children()] == ["demo-0000", "demo-0001", "demo-0002"]
        items = list(root.get_items(recursive=True))
        assert [item.id for item in items] == [f"tile-{n:06d}" for n in range(7)]
        for item in items:
            assert item.get_collection().id == "demo"
            assert item.get_root().id == root.id
            validate_item(item.to_dict(include_self_link=False, transform_hrefs=False))
        for path in catalog.root.rglob("*.json"):
            document = json.loads(path.read_text())
            pystac.validation.validate_dict(document | {"stac_extensions": []})

    def test_every_link_leads_to_a_file(self, catalog: StaticCatalog) -> None:
        for number in range(4):
            catalog.put(an_item(number), number // 2)
        catalog.finalize()
        for path in catalog.root.rglob("*.json"):
            for link in json.loads(path.read_text())["links"]:
                assert link["rel"] != "self"
                if "://" not in link["href"]:
                    assert (path.parent / link["href"]).is_file()

    def test_an_empty_collection_is_valid(self, catalog: StaticCatalog) -> None:
        assert catalog.finalize() == Summary(items=0, shards=0)
        read(catalog).validate_all()

    def test_collections_share_a_root(self, catalog: StaticCatalog) -> None:
        other = StaticCatalog(catalog.root, CollectionInfo(id="other", description="Another campaign."))
        for one in (catalog, other):
            one.put(an_item(1), 0)
            one.finalize()
        assert [child.id for child in read(catalog).get_children()] == ["demo", "other"]


class TestCollection:
    def test_says_what_its_items_have_in_common(self, catalog: StaticCatalog) -> None:
        for number in (3, 5, 8):
            catalog.put(an_item(number), 0)
        catalog.finalize()
        found = collection_of(catalog)
        assert found["extent"]["spatial"]["bbox"] == [[-147, -47, -141, -41]]
        assert found["extent"]["temporal"]["interval"] == [["2023-05-04T00:00:00Z", "2023-05-09T00:00:00Z"]]
        assert found["summaries"]["proj:code"] == ["EPSG:32631", "EPSG:32632"]
        bands = [{"name": "NDVI", "data_type": "float32", "nodata": "nan"}]
        assert found["summaries"]["bands"] == bands
        assert found["item_assets"] == {"data": {"type": "image/tiff", "roles": ["data"], "bands": bands}}
        assert (found["license"], found["title"], found["keywords"]) == ("CC-BY-4.0", "NDVI of Antwerp", ["ndvi"])

    def test_too_many_different_values_are_no_summary(self, catalog: StaticCatalog) -> None:
        for number in range(120):
            asset = {"href": "https://o.example/a.tif", "bands": [{"name": f"B{number}"}]}
            code = {"datetime": "2023-05-01T00:00:00Z", "proj:code": f"EPSG:{32000 + number}"}
            catalog.put(an_item(number, properties=code, assets={f"a{number}": asset}), 0)
        catalog.finalize()
        found = collection_of(catalog)
        assert "summaries" not in found
        assert found["item_assets"] == {}

    @pytest.mark.parametrize(
        ("boxes", "expected"),
        [
            ([[178, 0, -179, 1], [-179, 0, -178, 1]], [178, 0, -178, 1]),
            ([[177, 0, 180, 1], [-180, 0, -178, 1]], [177, 0, -178, 1]),
            ([[-1, 0, 1, 1], [5, 2, 6, 3]], [-1, 0, 6, 3]),
            ([[-180, -90, 180, 90]], [-180, -90, 180, 90]),
            ([[-180, 0, 180, 1], [178, 0, -179, 1]], [-180, 0, 180, 1]),
        ],
    )
    def test_extent_around_the_antimeridian(
        self, catalog: StaticCatalog, boxes: list[list[float]], expected: list[float]
    ) -> None:
        for number, bbox in enumerate(boxes):
            catalog.put(an_item(number, bbox=bbox), 0)
        catalog.finalize()
        assert collection_of(catalog)["extent"]["spatial"]["bbox"] == [expected]


class TestPut:
    def test_the_same_content_is_not_written_again(self, catalog: StaticCatalog) -> None:
        path = catalog.put(an_item(1), 0)
        before = path.stat()
        catalog.put(an_item(1), 0)
        after = path.stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    def test_new_content_replaces_the_old(self, catalog: StaticCatalog) -> None:
        catalog.put(an_item(1), 0)
        path = catalog.put(an_item(1, properties={"datetime": "2024-01-01T00:00:00Z"}), 0)
        assert json.loads(path.read_text())["properties"]["datetime"] == "2024-01-01T00:00:00Z"
        assert [p.name for p in catalog.root.rglob("*") if p.is_file()] == [path.name]

    @pytest.mark.parametrize("file_url", [False, True])
    def test_local_assets_become_relative(self, catalog: StaticCatalog, tmp_path: Path, file_url: bool) -> None:  # noqa: FBT001
        asset = tmp_path / "assets" / "my tile.tif"
        asset.parent.mkdir()
        asset.touch()
        href = asset.as_uri() if file_url else str(asset)
        path = catalog.put(an_item(1, assets={"data": {"href": href}}), 0)
        written = json.loads(path.read_text())["assets"]["data"]["href"]
        assert written == "../../../assets/my tile.tif"
        assert (path.parent / written).is_file()

    def test_through_a_symbolic_link(self, tmp_path: Path) -> None:
        (tmp_path / "disk" / "deep").mkdir(parents=True)
        (tmp_path / "out").symlink_to(tmp_path / "disk" / "deep")
        asset = tmp_path / "out" / "a.tif"
        asset.touch()
        path = StaticCatalog(tmp_path / "out" / "cat", INFO).put(an_item(1, assets={"data": {"href": str(asset)}}), 0)
        assert (path.parent / json.loads(path.read_text())["assets"]["data"]["href"]).is_file()

    @pytest.mark.parametrize("bad", ["../x", "catalog", "a/b", "", ".x"])
    def test_an_id_that_is_not_a_file_name(self, catalog: StaticCatalog, bad: str) -> None:
        with pytest.raises(InvalidInput):
            catalog.put(an_item(1, id=bad), 0)
        with pytest.raises(InvalidInput):
            StaticCatalog(catalog.root, CollectionInfo(id=bad, description=""))

    def test_nan_is_refused_and_leaves_nothing(self, catalog: StaticCatalog) -> None:
        with pytest.raises(ValueError, match="JSON"):
            catalog.put(an_item(1, properties={"datetime": "2024-01-01T00:00:00Z", "x": float("nan")}), 0)
        assert not files(catalog.root) if catalog.root.exists() else True

    def test_a_failed_write_leaves_the_old_item(self, catalog: StaticCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
        catalog.put(an_item(1), 0)
        before = files(catalog.root)

        def full(self: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            catalog.put(an_item(1, bbox=[0, 0, 1, 1]), 0)
        assert files(catalog.root) == before

    def test_remove(self, catalog: StaticCatalog) -> None:
        for number in range(2):
            catalog.put(an_item(number), 0)
        catalog.finalize()
        catalog.remove("tile-000000", 0)
        catalog.remove("tile-000000", 0)
        assert catalog.finalize().items == 1
        assert [item.id for item in read(catalog).get_items(recursive=True)] == ["tile-000001"]


class TestFinalize:
    def test_twice_gives_the_same(self, catalog: StaticCatalog) -> None:
        for number in range(5):
            catalog.put(an_item(number), number // 2)
        catalog.finalize()
        before = {path: path.stat().st_mtime_ns for path in catalog.root.rglob("*")}
        catalog.finalize()
        assert {path: path.stat().st_mtime_ns for path in catalog.root.rglob("*")} == before

    def test_does_not_depend_on_the_order_of_putting(self, tmp_path: Path) -> None:
        found = []
        for name, order in (("a", range(6)), ("b", reversed(range(6)))):
            catalog = StaticCatalog(tmp_path / name / "out", INFO)
            for number in order:
                catalog.put(an_item(number), number // 2)
            catalog.finalize()
            found.append(files(catalog.root))
        assert found[0] == found[1]

    def test_a_damaged_item_is_left_out_and_named(
        self, catalog: StaticCatalog, caplog: pytest.LogCaptureFixture
    ) -> None:
        catalog.put(an_item(1), 0)
        damaged = catalog.put(an_item(2), 0)
        for content in ("", "{", "[]", '{"id": "x"}'):
            damaged.write_text(content)
            summary = catalog.finalize()
            assert (summary.items, summary.unreadable) == (1, [damaged])
        assert "tile-000002.json" in caplog.text
        assert [item.id for item in read(catalog).get_items(recursive=True)] == ["tile-000001"]

    def test_what_a_killed_worker_left_behind_is_no_item(self, catalog: StaticCatalog) -> None:
        path = catalog.put(an_item(1), 0)
        (path.parent / ".tile-000002.json.0a1b2c.tmp").write_text("{")
        assert catalog.finalize() == Summary(items=1, shards=1)

    def test_an_item_that_comes_while_it_writes_is_not_lost(
        self, catalog: StaticCatalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        catalog.put(an_item(1), 0)
        write = static_catalog._write

        def write_late(path: Path, document: dict[str, Any]) -> None:
            write(path, document)
            if path.name == "collection.json":
                monkeypatch.setattr(static_catalog, "_write", write)
                catalog.put(an_item(2), 0)

        monkeypatch.setattr(static_catalog, "_write", write_late)
        assert catalog.finalize().items == 2
        assert len(list(read(catalog).get_items(recursive=True))) == 2

    def test_an_older_one_that_writes_last_does_not_win(
        self, catalog: StaticCatalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        catalog.put(an_item(1), 0)
        write = static_catalog._write

        def overtaken(path: Path, document: dict[str, Any]) -> None:
            monkeypatch.setattr(static_catalog, "_write", write)
            catalog.put(an_item(2), 0)
            catalog.finalize()
            write(path, document)

        monkeypatch.setattr(static_catalog, "_write", overtaken)
        catalog.finalize()
        assert len(list(read(catalog).get_items(recursive=True))) == 2
        assert collection_of(catalog)["extent"]["spatial"]["bbox"] == [[-149, -49, -147, -47]]

    def test_memory_does_not_grow_with_the_items(self, catalog: StaticCatalog) -> None:
        def peak() -> int:
            tracemalloc.start()
            catalog.finalize()
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return found

        for number in range(200):
            catalog.put(an_item(number), number // 100)
        # The least of three: whatever else runs in this process allocates too.
        few = min(peak() for _ in range(3))
        for number in range(200, 1200):
            catalog.put(an_item(number), number // 100)
        assert min(peak() for _ in range(3)) < 1.5 * few + 50_000


def _work(root: Path, part: int) -> None:
    """What a worker does, all of them on the same shards; two tiles are done by two workers each."""
    catalog = StaticCatalog(root, INFO)
    for number in {*range(part, 200, 4), 0, 199}:
        catalog.put(an_item(number), number // 50)
        if number % 50 == part:
            catalog.finalize()


def test_processes_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(_work, tmp_path / "out", part) for part in range(4)]:
            done.result()
    catalog = StaticCatalog(tmp_path / "out", INFO)
    catalog.finalize()
    found = files(catalog.root)
    assert not [name for name in found if name.endswith(".tmp")]
    alone = StaticCatalog(tmp_path / "alone" / "out", INFO)
    for number in range(200):
        alone.put(an_item(number), number // 50)
    alone.finalize()
    assert found == files(alone.root)
    assert len(list(read(catalog).get_items(recursive=True))) == 200


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    actions=st.lists(st.tuples(st.sampled_from(["put", "remove", "finalize"]), st.integers(0, 12_000_000)), max_size=12)
)
def test_the_catalog_holds_what_was_put_and_not_removed(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]]
) -> None:
    catalog = StaticCatalog(tmp_path_factory.mktemp("c") / "out", INFO)
    held = set()
    for action, order in actions:
        shard = order // ITEMS_PER_SHARD
        if action == "put":
            path = catalog.put(an_item(order), shard)
            assert os.fspath(path).endswith(f"/{shard:04d}/tile-{order:06d}.json")
            held.add(f"tile-{order:06d}")
        elif action == "remove":
            catalog.remove(f"tile-{order:06d}", shard)
            held.discard(f"tile-{order:06d}")
        else:
            catalog.finalize()
    assert catalog.finalize().items == len(held)
    assert {item.id for item in read(catalog).get_items(recursive=True)} == held
