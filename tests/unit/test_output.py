"""Where a tile's files go: never outside its folder, whatever a back-end calls them, and never by halves."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from campaign.meta import CampaignMeta
from campaign.tile import Tile
from workers.output import TileFolder


def folder_meta(path: Path) -> CampaignMeta:
    known = {"name": "c", "output": str(path)}
    return CampaignMeta(**{field.name: known.get(field.name) for field in fields(CampaignMeta)})  # type: ignore[arg-type]


def folder_in(path: Path) -> TileFolder:
    meta = folder_meta(path)
    return TileFolder(meta, Tile("c", "t0", holder="0123456789abcdef"))


def asset(folder: TileFolder, name: str) -> Path:
    """Where the only asset of a tile goes."""
    return folder.files([name])[0].path


@pytest.fixture
def folder(tmp_path: Path) -> TileFolder:
    return folder_in(tmp_path / "results")


HOSTILE = [
    "../../x", "/etc/x", "..", ".", "...", "", "a/../../b", "..\\..\\x", "C:\\x", "x" * 300, "é" * 300, "\0", "a\0b",
    "a\nb", "~/x", "con", "日本", ".part-a", "-rf", "a b", "%2e%2e%2fx", "\u202ex", "\ud800", "\uff0fx", "\uff0e\uff0e\uff0fx",
]  # fmt: skip


@given(st.one_of(st.text(max_size=300), st.text("./\\~aé", max_size=12)))
@settings(max_examples=300)
def test_no_name_leaves_the_folder(name: str) -> None:
    folder = folder_in(Path("/results"))
    path = asset(folder, name)
    assert path.parent == folder.path == Path("/results/c/t0")
    assert path.resolve().is_relative_to(folder.path)
    assert path.name not in {"", ".", ".."}
    assert len(path.name) <= 120
    assert path.name.isascii()
    assert path.name.isprintable()


for _name in HOSTILE:
    test_no_name_leaves_the_folder = example(_name)(test_no_name_leaves_the_folder)


@pytest.mark.parametrize("name", HOSTILE)
def test_every_name_can_be_written(folder: TileFolder, name: str) -> None:
    with folder.writing(asset(folder, name)) as part:
        part.write_bytes(b"x")
    assert [path.read_bytes() for path in folder.path.iterdir()] == [b"x"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("openEO_2024-05-01Z.tif", "openEO_2024-05-01Z.tif"),
        ("assets/openEO.nc", "openEO.nc"),
        ("résultat.tif", "resultat.tif"),
        ("a b+c.tif", "a_b_c.tif"),
        (".hidden.tif", "hidden.tif"),
        ("", "asset"),
        ("日本", "asset"),
    ],
)
def test_names_stay_readable(folder: TileFolder, name: str, path: str) -> None:
    assert asset(folder, name).name == path


def test_long_names_keep_their_suffix(folder: TileFolder) -> None:
    assert asset(folder, "x" * 300 + ".tif").name.endswith("x.tif")


def test_long_names_are_not_hidden_files(folder: TileFolder) -> None:
    assert not asset(folder, "a" + ".part-" + "x" * 114).name.startswith(".")


def test_ids_are_those_of_the_tile_and_the_stem(folder: TileFolder) -> None:
    files = folder.files(["openEO_2024-05-01Z.tif", "stats.csv", "stats.json", "a/b.c.nc"])
    assert [file.item_id for file in files] == [
        "t0.openEO_2024-05-01Z",
        "t0.stats_csv",
        "t0.stats_json",
        "t0.b_c",
    ]


def test_files_of_one_name_get_a_hash_each(folder: TileFolder) -> None:
    one, two, other = folder.files(["a/x y.tif", "b/x_y.tif", "z.tif"])
    assert one.path.name.endswith("-x_y.tif")
    assert two.path.name.endswith("-x_y.tif")
    assert len({one.path, two.path, one.item_id, two.item_id}) == 4
    assert (other.path.name, other.item_id) == ("z.tif", "t0.z")
    assert folder.files(["b/x_y.tif", "z.tif", "a/x y.tif"]) == [two, other, one]  # any worker makes the same names


def test_ids_of_two_tiles_are_never_the_same(folder: TileFolder) -> None:
    """`t0` with `a.b.tif` and `t0.a` with `b.tif`: dots are for the tile's id only."""
    other = TileFolder(folder_meta(folder.path.parent), Tile("c", "t0.a"))
    assert folder.files(["a.b.tif"])[0].item_id != other.files(["b.tif"])[0].item_id


NAMES = st.lists(st.text("aA._ é/", max_size=6) | st.sampled_from(["a.tif", "a.b.tif"]), max_size=6, unique=True)


@given(NAMES)
@settings(max_examples=200)
def test_each_file_has_a_place_of_its_own(names: list[str]) -> None:
    files = folder_in(Path("/results")).files(names)
    assert len({file.path for file in files}) == len(names)


@pytest.mark.parametrize("names", [("a.b.tif", "a_b.tif"), ("a.tif", "a.csv", "a_csv")])
def test_each_file_has_an_item_of_its_own(folder: TileFolder, names: tuple[str, ...]) -> None:
    assert len({file.item_id for file in folder.files(names)}) == len(names)


def test_an_asset_does_not_take_the_place_of_an_item(folder: TileFolder) -> None:
    assert asset(folder, "t0.openEO.stac.json") != folder.item("t0.openEO")


@pytest.mark.parametrize("name", ["tile.json", "TILE.JSON", "a/tile.json", ".tile.json"])
def test_an_asset_does_not_take_the_place_of_the_manifest(folder: TileFolder, name: str) -> None:
    files = folder.files([name, "_tile.json", "b/tile.json"])
    names = [file.path.name for file in files]
    assert "tile.json" not in [name.lower() for name in names]
    assert len(set(names)) == 3
    assert asset(folder, name).name.lower() == "_tile.json"


def test_a_file_takes_its_place_when_it_is_whole(folder: TileFolder) -> None:
    target = asset(folder, "a.tif")
    with folder.writing(target) as part:
        assert part.parent == target.parent
        assert part.suffix == ".tif"
        assert part.name == ".part-01234567-a.tif"
        part.write_bytes(b"half")
        assert not target.exists()
        part.write_bytes(b"whole")
    assert [path.name for path in folder.path.iterdir()] == ["a.tif"]
    assert target.read_bytes() == b"whole"


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_no_file(folder: TileFolder, kind: type[BaseException]) -> None:
    def write() -> None:
        with folder.writing(asset(folder, "a.tif")) as part:
            part.write_bytes(b"half")
            raise kind

    with pytest.raises(kind):
        write()
    assert list(folder.path.iterdir()) == []


def test_a_block_that_fails_leaves_the_old_file(folder: TileFolder) -> None:
    def write(content: bytes, *, fail: bool) -> None:
        with folder.writing(asset(folder, "a.tif")) as part:
            part.write_bytes(content)
            if fail:
                raise ZeroDivisionError

    write(b"old", fail=False)
    with pytest.raises(ZeroDivisionError):
        write(b"new", fail=True)
    assert asset(folder, "a.tif").read_bytes() == b"old"
    write(b"new", fail=False)
    assert asset(folder, "a.tif").read_bytes() == b"new"


def test_a_block_that_writes_nothing_fails(folder: TileFolder) -> None:
    with pytest.raises(FileNotFoundError), folder.writing(asset(folder, "a.tif")):
        pass


def test_two_workers_do_not_write_into_the_same_part(tmp_path: Path) -> None:
    first, second = (
        TileFolder(folder_meta(tmp_path), Tile("c", "t0", holder=holder)) for holder in ("a" * 32, "b" * 32)
    )
    with first.writing(asset(first, "a.tif")) as one, second.writing(asset(second, "a.tif")) as two:
        assert one != two
        one.write_bytes(b"x")
        two.write_bytes(b"x")
    assert [path.name for path in first.path.iterdir()] == ["a.tif"]


def test_what_a_killed_worker_left_is_swept(folder: TileFolder) -> None:
    folder.sweep()
    folder.path.mkdir(parents=True)
    (folder.path / ".part-deadbeef-a.tif").write_bytes(b"half")
    (folder.path / "a.tif").write_bytes(b"whole")
    folder.sweep()
    assert [path.name for path in folder.path.iterdir()] == ["a.tif"]


def test_an_item_comes_back_with_its_assets_where_they_are(folder: TileFolder) -> None:
    item = {
        "id": "t0_a",
        "assets": {"data": {"href": "a.tif"}, "elsewhere": {"href": "https://x/b.tif"}},
        "properties": {"title": "Gänserndorf"},
    }
    folder.write_item(item)
    assert [path.name for path in folder.path.iterdir()] == ["t0_a.stac.json"]
    assert json.loads(folder.item("t0_a").read_text("utf-8")) == item
    found = folder.read_item("t0_a")
    assert found["assets"]["data"]["href"] == str(folder.path / "a.tif")
    assert found["assets"]["elsewhere"]["href"] == "https://x/b.tif"
