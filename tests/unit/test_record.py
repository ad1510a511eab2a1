"""What stays on disk: read as it was written, or not at all."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from campaign import table as tables
from campaign.errors import InvalidInput
from campaign.meta import CampaignMeta
from campaign.record import Manifest, Record, delivered, read_manifest, read_record, remember, to_json, write_record

if TYPE_CHECKING:
    from pathlib import Path

RECORD = Record("c", "6dbae8db", "d1", 5.5, {"b": "http://b"})


def meta(output: Path, **words: Any) -> CampaignMeta:
    known = {"name": "c", "run": "r", "digest": "d", "created_at": 1.0, "output": str(output), "urls": {}} | words
    return CampaignMeta(**{field.name: known.get(field.name) for field in fields(CampaignMeta)})  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_record(tmp_path, "c") is None
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path, "c") == RECORD
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["campaign.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"form": 1}', '{"form": 2, "campaign": "c"}'])
def test_a_record_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "campaign.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"campaign.json: is no record"):
        read_record(tmp_path, "c")
    remember(tmp_path, meta(tmp_path))  # the store knows better
    assert read_record(tmp_path, "c") is not None


def test_a_record_keeps_back_ends_that_a_campaign_had(tmp_path: Path) -> None:
    remember(tmp_path, meta(tmp_path, urls={"a": "http://a", "b": "http://b"}))
    remember(tmp_path, meta(tmp_path, urls={"a": "http://a2"}))
    found = read_record(tmp_path, "c")
    assert found is not None
    assert found.urls == {"a": "http://a2", "b": "http://b"}


def test_an_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a file")
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_record(tmp_path, RECORD)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "c" / "t0"
    folder.mkdir(parents=True)
    (folder / "a.tif").write_bytes(b"12345")
    known: dict[str, Any] = {"campaign": "c", "tile": "t0", "run": "r", "attempt": 1, "backend": "b", "job_id": "j"}
    known |= {"items": ["t0.a"], "files": {"a.tif": 5}, "costs": 1.5, "spent": 0.0, "usage": "", "finished_at": 3.0}
    (folder / "tile.json").write_text(to_json(Manifest(**known)))
    return folder


def test_a_manifest_counts_while_all_its_files_are_there(folder: Path, tmp_path: Path) -> None:
    found = read_manifest(folder)
    assert found is not None
    assert (found.items, found.files, found.costs) == (["t0.a"], {"a.tif": 5}, 1.5)
    assert delivered(tmp_path, "c") == 1
    assert delivered(tmp_path, "other") == 0
    (folder / "a.tif").write_bytes(b"1234")
    assert read_manifest(folder) is None
    (folder / "a.tif").unlink()
    assert read_manifest(folder) is None


@pytest.mark.parametrize("change", [{"tile": "t1"}, {"items": []}, {"form": 2}, {"files": ["a.tif"]}, {"files": None}])
def test_a_manifest_of_something_else_does_not_count(folder: Path, change: dict[str, Any]) -> None:
    kept = json.loads((folder / "tile.json").read_text())
    (folder / "tile.json").write_text(json.dumps(kept | change))
    assert read_manifest(folder) is None


def test_half_a_manifest_does_not_count(folder: Path) -> None:
    text = (folder / "tile.json").read_text()
    (folder / "tile.json").write_text(text[: len(text) // 2])
    assert read_manifest(folder) is None


@pytest.mark.parametrize("name", ["campaign.json", "Map.html"])
def test_a_tile_does_not_take_the_place_of_a_campaign_s_file(name: str) -> None:
    with pytest.raises(InvalidInput, match="files of a campaign have these names"):
        tables.tile_ids(pd.DataFrame({"tile_id": ["a", name]}))
