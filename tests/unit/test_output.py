"""Where a tile's files go: never outside its folder, whatever a back-end calls them, and never by halves."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from campaign.store import CampaignMeta
from campaign.tile import Tile
from workers.output import TileFolder


def folder_in(path: Path) -> TileFolder:
    known = {"name": "c", "output": str(path)}
    meta = CampaignMeta(**{field.name: known.get(field.name) for field in fields(CampaignMeta)})  # type: ignore[arg-type]
    return TileFolder(meta, Tile("c", "t0"))


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
    path = folder.asset(name)
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
    with folder.writing(folder.asset(name)) as part:
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
    assert folder.asset(name).name == path


def test_long_names_keep_their_suffix(folder: TileFolder) -> None:
    assert folder.asset("x" * 300 + ".tif").name.endswith("x.tif")


@pytest.mark.xfail(strict=True, reason="the beginning is cut after its dots were taken")
def test_long_names_are_not_hidden_files(folder: TileFolder) -> None:
    assert not folder.asset("a" + ".part-" + "x" * 114).name.startswith(".")


@pytest.mark.xfail(strict=True, reason="an asset may be called as an item file is")
def test_an_asset_does_not_take_the_place_of_an_item(folder: TileFolder) -> None:
    assert folder.asset("t0_openEO.stac.json") != folder.item("t0_openEO")


def test_a_file_takes_its_place_when_it_is_whole(folder: TileFolder) -> None:
    target = folder.asset("a.tif")
    with folder.writing(target) as part:
        assert part.parent == target.parent
        assert part.suffix == ".tif"
        part.write_bytes(b"half")
        assert not target.exists()
        part.write_bytes(b"whole")
    assert [path.name for path in folder.path.iterdir()] == ["a.tif"]
    assert target.read_bytes() == b"whole"


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_no_file(folder: TileFolder, kind: type[BaseException]) -> None:
    def write() -> None:
        with folder.writing(folder.asset("a.tif")) as part:
            part.write_bytes(b"half")
            raise kind

    with pytest.raises(kind):
        write()
    assert list(folder.path.iterdir()) == []


def test_a_block_that_fails_leaves_the_old_file(folder: TileFolder) -> None:
    def write(content: bytes, *, fail: bool) -> None:
        with folder.writing(folder.asset("a.tif")) as part:
            part.write_bytes(content)
            if fail:
                raise ZeroDivisionError

    write(b"old", fail=False)
    with pytest.raises(ZeroDivisionError):
        write(b"new", fail=True)
    assert folder.asset("a.tif").read_bytes() == b"old"
    write(b"new", fail=False)
    assert folder.asset("a.tif").read_bytes() == b"new"


def test_a_block_that_writes_nothing_fails(folder: TileFolder) -> None:
    with pytest.raises(FileNotFoundError), folder.writing(folder.asset("a.tif")):
        pass


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
