"""The table in and out: the codec, the checks, the files, the statuses."""

import decimal
import json
import subprocess
import sys
import uuid
import warnings
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openeo.extra.job_management import CsvJobDatabase, MultiBackendJobManager, ParquetJobDatabase
from pandas.testing import assert_frame_equal

from campaign import table
from campaign.errors import InvalidInput
from campaign.table import check_table, decode, digest, encode, export_table, read_table, row_at, tile_ids, with_status
from campaign.tile import Tile, TileStatus


def same(left: Any, right: Any) -> bool:  # noqa: PLR0911
    """The same value of the same type, NaN equal to NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and all(map(same, left.ravel(), right.ravel()))
    if left is pd.NA or left is pd.NaT:
        return left is right
    if isinstance(left, shapely.Geometry):
        return shapely.equals_identical(left, right)
    return bool(left == right) or (left != left and right != right)  # noqa: PLR0124


def assert_same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    assert_frame_equal(left, right, check_freq=False)
    assert left.index.equals(right.index)
    for name in left.columns:
        assert left[name].dtype == right[name].dtype
        for a, b in zip(left[name], right[name], strict=True):
            assert same(a, b), f"{name}: {a!r} {b!r}"


def roundtrip(df: Any, chunk_rows: Any = 2) -> Any:
    parts = [decode(chunk) for chunk in encode(df, chunk_rows=chunk_rows)]
    for start, part in zip(range(0, max(len(df), 1), chunk_rows), parts, strict=True):
        assert_same(df.iloc[start : start + chunk_rows], part)
    return parts


def box_table(n: Any = 3, crs: Any = "EPSG:4326", **columns: Any) -> Any:
    boxes = shapely.box(np.arange(n) * 0.1, 50, np.arange(n) * 0.1 + 0.1, 50.1)
    return gpd.GeoDataFrame(columns or {"year": [2024] * n}, geometry=boxes, crs=crs)


def test_importing_it_leaves_pandas_alone() -> None:
    program = "import sys, campaign.table; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    with pytest.raises(AttributeError, match="nothing"):
        _ = table.nothing
    assert all(hasattr(table, name) for name in table.__all__)


# The codec.

COLUMNS = {
    "text": ["a", "", "é€🛰"],
    "text_none": ["a", None, float("nan")],
    "surrogate": ["\ud800", "b", "c"],
    "int": [1, 2, -(2**63)],
    "big_int": pd.Series([2**70, 1, None], dtype=object),
    "float": [1.5, float("nan"), -0.0],
    "infinite": [float("inf"), float("-inf"), 5e-324],
    "float32": np.array([0.1, np.nan, 1], dtype="float32"),
    "float16": np.array([0.1, np.nan, 1], dtype="float16"),
    "uint8": np.array([0, 1, 255], dtype="uint8"),
    "big_endian": np.array([1, 2, 3], dtype=">i4").astype("<i4"),
    "bool": [True, False, True],
    "bool_none": pd.Series([True, np.False_, None], dtype=object),
    "nothing": [None, None, None],
    "mixed": pd.Series([1, "1", 1.0], dtype=object),
    "missing": pd.Series([pd.NA, pd.NaT, None], dtype=object),
    "lists": [[1, "a", None], [], [[1.5], {"b": [True]}]],
    "same_length": pd.Series([[1, 2], [3, 4], [5, 6]], dtype=object),
    "dicts": [{"a": 1}, {}, {"$type": "dict", 1: (2, {3})}],
    "arrays": pd.Series([np.array([1, 2]), np.array(["a", None], dtype=object), np.zeros((2, 0))], dtype=object),
    "scalars": pd.Series([np.int16(1), np.float32(0.1), np.datetime64("2024-01-01", "D")], dtype=object),
    "days": pd.to_datetime(["2024-01-01", None, "2024-03-01"]),
    "seconds": np.array(["2024-01-01", "NaT", "1900-01-01"], dtype="datetime64[s]"),
    "utc": pd.to_datetime(["2024-01-01", None, "2024-03-01"]).tz_localize("UTC"),
    "brussels": pd.to_datetime(["2024-10-27 00:30", "2024-10-27 01:30", None])
    .tz_localize("UTC")
    .tz_convert("Europe/Brussels"),
    "offset": pd.to_datetime(["2024-01-01T00:00:00+02:00"] * 3),
    "lengths": pd.to_timedelta(["1d", None, "3ns"]),
    "timestamps": pd.Series(
        [pd.Timestamp("2024-01-01", tz="Asia/Tokyo"), pd.Timedelta("1s"), pd.Timestamp("2024")], dtype=object
    ),
    "python_times": pd.Series([datetime(2024, 1, 1, tzinfo=UTC), date(2024, 1, 1), time(1, 2)], dtype=object),
    "zones": pd.Series(
        [
            datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Brussels")),
            datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            datetime(2024, 1, 1),  # noqa: DTZ001
        ],
        dtype=object,
    ),
    "others": pd.Series([decimal.Decimal("1.10"), uuid.UUID(int=5), b"\x00\xff"], dtype=object),
    "more": pd.Series([timedelta(days=-1, microseconds=1), frozenset({"a", "b", "c"}), 1 + 2j], dtype=object),
    "category": pd.Categorical(["b", None, "a"], categories=["c", "b", "a"], ordered=True),
    "numbered": pd.Categorical([1, 2, 1]),
    "string": pd.array(["a", None, ""], dtype="string[python]"),
    "arrow_string": pd.array(["a", None, ""], dtype="string[pyarrow]"),
    "nullable": pd.array([1, None, 3], dtype="Int64"),
    "nullable_bool": pd.array([True, None, False], dtype="boolean"),
    "nullable_float": pd.array([1.5, None, 3], dtype="Float32"),
    "geometries": pd.Series([shapely.Point(1, 2), None, shapely.Point()], dtype=object),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_kind_of_column_comes_back(name: Any) -> None:
    df = pd.DataFrame({name: COLUMNS[name]})
    roundtrip(df)
    assert digest(df) == digest(df.copy())
    assert check_table(df) == []


def test_all_of_them_at_once_in_a_geo_table() -> None:
    df = gpd.GeoDataFrame(COLUMNS, geometry=shapely.box([0, 1, 2], 0, [1, 2, 3], 1), crs="EPSG:32631")
    parts = roundtrip(df)
    assert all(part.crs == df.crs for part in parts)


@pytest.mark.parametrize(
    "crs",
    [None, "EPSG:4326", "OGC:CRS84", 32631, "+proj=laea +lat_0=10 +lon_0=20 +ellps=WGS84", "EPSG:4326+5773"],
)
def test_any_crs(crs: Any) -> None:
    df = box_table(crs=crs)
    (back,) = roundtrip(df, 10)
    assert back.crs == df.crs


def test_several_geometry_columns_with_gaps() -> None:
    df = box_table()
    df["centre"] = gpd.GeoSeries([shapely.Point(1, 2, 3), None, shapely.Point()], crs=3035)
    df["plain"] = gpd.GeoSeries([None, None, None])
    df = df.rename_geometry("cell").set_geometry("centre")
    for part in roundtrip(df):
        assert part.active_geometry_name == "centre"
        assert part["cell"].crs == 4326
        assert part["plain"].crs is None
    roundtrip(df.drop(columns="centre"))  # no active geometry


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(["a", "b", "c"], name="cell"),
        pd.Index([7, 5, 5]),
        pd.RangeIndex(10, 16, 2, name="n"),
        pd.date_range("2024-01-01", periods=3, tz="UTC"),
        pd.Index([1, "a", None], dtype=object),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["x", None]),
        pd.CategoricalIndex(["a", "b", "a"]),
    ],
)
def test_any_index(index: Any) -> None:
    df = box_table().set_axis(index)
    (part,) = roundtrip(df, 3)
    assert same(row_at(part, 1).name, df.iloc[1].name)


def test_names_of_columns() -> None:
    roundtrip(pd.DataFrame([[1, 2, 3]], columns=["", "é.b", 7]).rename_axis(columns="names"))
    for names in (["a", "a"], ["1", 1], pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])):
        with pytest.raises(InvalidInput, match="unique"):
            encode(pd.DataFrame([[1, 2]], columns=names))


def test_an_empty_table_keeps_its_columns() -> None:
    roundtrip(box_table(a=[1, 2, 3], b=["x", "y", "z"]).iloc[:0])


def test_what_cannot_be_kept_is_named_with_its_row() -> None:
    circle: list[object] = []
    circle.append(circle)
    df = pd.DataFrame(
        {"fine": [1, 2], "model": ["a", object()], "circle": [[], circle], "period": pd.period_range("2024", periods=2)}
    )
    with pytest.raises(InvalidInput) as caught:
        encode(df)
    message = str(caught.value)
    assert "column 'model', row 1: a value of type builtins.object" in message
    assert "column 'circle', row 1: a value that contains itself" in message
    assert "column 'period' has the type period" in message
    assert "fine" not in message
    assert len(check_table(df)) == 3
    ring = gpd.GeoDataFrame(geometry=[shapely.LinearRing([(0, 0), (1, 0), (1, 1)])], crs=4326)
    with pytest.raises(InvalidInput, match="row 0: a LinearRing"):
        encode(ring)


def test_chunks_are_geoparquet(tmp_path: Path) -> None:
    df = box_table(2500, year=[2024] * 2500)
    chunks = encode(df)
    assert [len(decode(chunk)) for chunk in chunks] == [1000, 1000, 500]
    (tmp_path / "chunk.parquet").write_bytes(chunks[1])
    again = gpd.read_parquet(tmp_path / "chunk.parquet")
    assert again.crs == df.crs
    assert again.geometry.geom_equals_exact(df.geometry.iloc[1000:2000].reset_index(drop=True), 0).all()
    assert pd.concat([decode(chunk) for chunk in chunks]).index.equals(df.index)


def test_a_damaged_chunk_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "foreign.parquet")
    for damaged in (b"", b"nonsense", encode(box_table())[0][:-10], (tmp_path / "foreign.parquet").read_bytes()):
        with pytest.raises(InvalidInput, match="cannot be read back"):
            decode(damaged)
    with pytest.raises(InvalidInput, match="chunk_rows"):
        encode(box_table(), chunk_rows=0)


def test_a_row_is_what_the_job_manager_gives() -> None:
    df = box_table(year=[2023, 2024, 2025], cloud=[0.5, 1, 2], flag=[True, False, True]).set_axis(["a", "b", "c"])
    theirs = MultiBackendJobManager._normalize_df(df).loc["b"]
    ours = row_at(decode(encode(df)[0]), 1)
    assert ours.name == theirs.name == "b"
    assert type(ours) is pd.Series
    assert isinstance(ours.geometry, shapely.Polygon)
    assert [type(ours[name]) for name in df.columns] == [type(theirs[name]) for name in df.columns]
    assert ours.to_dict() == theirs[df.columns].to_dict()


@pytest.mark.parametrize("df", [pd.DataFrame({"year": [2024], "cloud": [0.5]}), box_table(1)[["geometry"]]])
def test_a_row_s_whole_numbers_and_geometry_stay_what_they_are(df: Any) -> None:
    row = row_at(decode(encode(df)[0]), 0)
    assert row.dtype == object
    assert same(row.tolist(), df.assign(text="a").iloc[0].tolist()[:-1])
    assert list(row.index) == list(df.columns)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=5,
)
KINDS = st.sampled_from([st.text(), st.floats(), st.integers(-(2**63), 2**63 - 1), st.booleans(), JSON_LIKE])


@st.composite
def tables(draw: Any) -> Any:
    rows = draw(st.integers(1, 5))
    names = draw(st.lists(st.text(max_size=4).filter(lambda name: "\0" not in name), max_size=3, unique=True))
    data = {}
    for name in names:
        values = draw(st.lists(draw(KINDS), min_size=rows, max_size=rows))
        data[name] = pd.Series(values, dtype=draw(st.sampled_from([None, object])))
    index = draw(st.none() | st.lists(st.text(max_size=3), min_size=rows, max_size=rows))
    return pd.DataFrame(data, index=pd.RangeIndex(rows)).set_axis(
        pd.RangeIndex(rows) if index is None else pd.Index(index)
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.integers(1, 3))
def test_any_table_comes_back(df: Any, chunk_rows: Any) -> None:
    roundtrip(df, chunk_rows)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_equal_tables_have_equal_digests(df: Any) -> None:
    assert digest(df) == digest(roundtrip(df, 10)[0])


def test_the_digest_is_the_same_in_every_process_and_notices_changes() -> None:
    df = box_table(year=[1, 2, 3], name=["a", None, "c"], when=pd.to_datetime(["2024-01-01"] * 3, utc=True))
    assert digest(df) == "902f6ea2cdb1108f95903a0925a912b6940981865816253b470ff2a084ae32e6"
    changes = [
        df.assign(year=[1, 2, 4]),
        df.assign(year=[1.0, 2.0, 3.0]),
        df.assign(name=["a", float("nan"), "c"]),
        df.rename(columns={"year": "jaar"}),
        df.iloc[::-1],
        df.iloc[:2],
        df.set_axis(["a", "b", "c"]),
        df.set_crs("EPSG:4258", allow_override=True),
        df.assign(geometry=df.geometry.translate(1e-9)),
        df.assign(more=1),
    ]
    assert len({digest(df), *map(digest, changes)}) == len(changes) + 1
    assert digest(pd.DataFrame({"a": ["ab", "c"]})) != digest(pd.DataFrame({"a": ["a", "bc"]}))


# Ids.


def test_ids_come_from_the_column_or_the_index_or_the_position() -> None:
    df = pd.DataFrame({"tile_id": ["a", "b"], "tile": [3, 4], "other": [1.0, 2.0]}, index=["x", "y"])
    assert tile_ids(df) == ["a", "b"]
    assert tile_ids(df, "tile") == ["3", "4"]
    assert tile_ids(df, "other") == ["1", "2"]
    assert tile_ids(df.drop(columns="tile_id")) == ["3", "4"]
    assert tile_ids(df[["other"]]) == ["x", "y"]
    assert tile_ids(df[["other"]].reset_index(drop=True)) == ["row-000000", "row-000001"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b c", "é", ""], "'b c' \\(row 1\\), 'é' \\(row 2\\), '' \\(row 3\\) cannot be tile ids"),
        (["a", None, float("nan")], "None \\(row 1\\), nan \\(row 2\\)"),
        (["a/b", "..", "-a", "a\n"], "row 0.*row 1.*row 2.*row 3"),
        ([True, False, 1.5], "True \\(row 0\\), False \\(row 1\\), 1.5"),
        (["a" * 201], "at most 200"),
        (["a", "b", "a"], "'a' \\(row 2\\) were already used \\(the first one in row 0\\)"),
        ([1, "1"], "make the ids unique"),
        ([" "] * 9, "and 4 more"),
    ],
)
def test_bad_ids_are_named(values: Any, message: Any) -> None:
    with pytest.raises(InvalidInput, match=message):
        tile_ids(pd.DataFrame({"tile_id": pd.Series(values, dtype=object)}))


def test_ids_from_a_column_that_is_not_there() -> None:
    with pytest.raises(InvalidInput, match="no column 'x' for the tile ids; there are a"):
        tile_ids(pd.DataFrame({"a": [1]}), "x")


# Problems.


def test_a_good_table_has_no_problems() -> None:
    assert check_table(box_table()) == []
    assert check_table(pd.DataFrame({"a": [1], "backend_name": ["cdse"]})) == []
    assert check_table(MultiBackendJobManager._normalize_df(box_table())) == []


def test_every_problem_is_found() -> None:
    df = box_table(6, id=range(6), status=["cloudy"] * 6)
    df.loc[1, "geometry"] = None
    df.loc[2, "geometry"] = shapely.Polygon()
    df.loc[3, "geometry"] = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    df.loc[4, "geometry"] = shapely.box(0, 95, 1, 96)
    problems = check_table(df)
    for text in ("'cloudy'", "no geometry in row 1", "empty geometry in row 2", "invalid geometry in row 3", "row 4"):
        assert sum(text in problem for problem in problems) == 1, text
    assert not any("\n" in problem for problem in problems)


@pytest.mark.parametrize(
    ("df", "message"),
    [
        (pd.DataFrame(), "empty"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "unique"),
        (box_table(crs=None), "no CRS"),
        (gpd.GeoDataFrame({"a": [1]}), "no active geometry"),
        (gpd.GeoDataFrame(geometry=[shapely.box(51, 100, 52, 101)], crs=4326), "longitude and latitude swapped"),
        (gpd.GeoDataFrame(geometry=[shapely.box(5e5, 5e6, 6e5, 6e6)], crs=4326), "are these metres"),
        (gpd.GeoDataFrame(geometry=[shapely.box(5e5, 56e6, 6e5, 57e6)], crs=32631), "y 56,000,000"),
        (gpd.GeoDataFrame(geometry=[shapely.box(1e5, 5e6, 2e5, 5.1e6)], crs=32631), "UTM zone 31N: row 0"),
        (pd.DataFrame({"id": [0, 1]}), "rename it \\(to tile_id"),
        (pd.DataFrame({"costs": [1.5]}), "'costs'"),
        (pd.DataFrame({"start_time": ["2024-01-01"]}), "'start_time'"),
    ],
)
def test_problems(df: Any, message: Any) -> None:
    with pytest.raises(AssertionError, match=message):
        assert check_table(df) == [], " ".join(check_table(df))


def test_a_job_database_is_not_taken_for_a_mistake() -> None:
    df = MultiBackendJobManager._normalize_df(box_table()).astype({"id": object})
    df.loc[0, ["id", "status", "backend_name", "costs"]] = ["j-1", "finished", "cdse", 4.0]
    df.loc[1, "status"] = "queued_for_start"
    assert check_table(df) == []


# Files.


def job_table() -> Any:
    df = box_table(
        year=[2023, 2024, 2025],
        tile_id=["007", "008", "009"],
        bands=[["B02", "B03"], [], ["B04"]],
        title=["a", None, "ü"],
        cloud=[0.5, np.nan, 1.0],
    )
    return MultiBackendJobManager._normalize_df(df)


@pytest.mark.parametrize("suffix", [".parquet", ".geoparquet", ".geojson"])
def test_what_is_exported_is_read_back(tmp_path: Path, suffix: Any) -> None:
    df = job_table()
    export_table(df, tmp_path / "new" / f"jobs{suffix}")
    back = read_table(tmp_path / "new" / f"jobs{suffix}")
    assert sorted(back.columns) == sorted(df.columns)
    assert back.crs == df.crs
    assert [list(bands) for bands in back["bands"]] == df["bands"].tolist()
    for name in ("year", "tile_id", "title", "status"):
        assert back[name].tolist() == df[name].tolist()
    assert shapely.equals_exact(back.geometry.array, df.geometry.array, 1e-9).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"jobs{suffix}"]


def test_a_csv_is_read_as_the_job_manager_reads_it(tmp_path: Path) -> None:
    export_table(job_table(), str(tmp_path / "jobs.csv"))
    ours, theirs = read_table(tmp_path / "jobs.csv"), CsvJobDatabase(tmp_path / "jobs.csv").read()
    assert ours["tile_id"].tolist() == ["007", "008", "009"]
    assert_frame_equal(
        pd.DataFrame(ours.drop(columns=["tile_id", "geometry"])),
        pd.DataFrame(theirs.drop(columns=["tile_id", "geometry"])),
    )
    assert ours.geometry.geom_equals(theirs.geometry.set_crs(4326)).all()
    assert ours.crs == 4326


def test_files_of_the_job_manager_are_read(tmp_path: Path) -> None:
    ParquetJobDatabase(tmp_path / "geo.parquet").initialize_from_df(job_table())
    ParquetJobDatabase(tmp_path / "plain.parquet").initialize_from_df(pd.DataFrame({"year": [1, 2]}))
    assert isinstance(read_table(tmp_path / "geo.parquet"), gpd.GeoDataFrame)
    assert read_table(tmp_path / "plain.parquet")["year"].tolist() == [1, 2]
    assert_same(read_table(tmp_path / "geo.parquet"), ParquetJobDatabase(tmp_path / "geo.parquet").read())
    for name in ("geo.parquet", "plain.parquet"):
        roundtrip(read_table(tmp_path / name))
        assert check_table(read_table(tmp_path / name)) == []


def test_geometry_in_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,geometry\n1,\n2,"POINT (600000 5660000)"\n')
    df = read_table(path)
    assert df.crs is None
    assert df.geometry.isna().tolist() == [True, False]
    path.write_text("a,geometry\n1,POINT (1 2)\n2,POINT (1\n")
    with pytest.raises(InvalidInput, match="row 1 is no WKT: 'POINT \\(1'"):
        read_table(path)
    for text in ("a,geometry\n1,square\n", "a,geometry\n1,5\n", "a,geometry\n1,\n"):
        path.write_text(text)
        assert not isinstance(read_table(path), gpd.GeoDataFrame)


def test_a_geojson_of_geopandas_and_one_with_ids(tmp_path: Path) -> None:
    utm = box_table().to_crs(32631).assign(date="2024-05-01", nested=[{"a": [1]}, None, {}])
    utm.drop(columns="nested").to_file(tmp_path / "utm.geojson", driver="GeoJSON")
    back = read_table(tmp_path / "utm.geojson")
    assert back.crs == 32631
    assert back["date"].tolist() == ["2024-05-01"] * 3
    (tmp_path / "ids.geojson").write_text(utm.to_crs(4326).set_axis(["a", "b", "c"]).to_json())
    back = read_table(tmp_path / "ids.geojson")
    assert tile_ids(back) == ["a", "b", "c"]
    assert back["nested"].tolist() == [{"a": [1]}, None, {}]


def test_a_geopackage(tmp_path: Path) -> None:
    path = tmp_path / "grid.gpkg"
    box_table().to_file(path, driver="GPKG", layer="one")
    assert read_table(path).crs == 4326
    box_table().to_file(path, driver="GPKG", layer="two")
    assert pyogrio.list_layers(path).shape[0] == 2
    with pytest.raises(InvalidInput, match="2 layers \\(one, two\\)"):
        read_table(path)


def test_tables_and_functions_that_return_one() -> None:
    df = box_table()
    assert read_table(df) is df
    assert read_table(lambda: df) is df
    with pytest.raises(InvalidInput, match="NoneType"):
        read_table(lambda: None)
    with pytest.raises(InvalidInput, match="of type int"):
        read_table(5)
    with pytest.raises(InvalidInput, match="empty"):
        read_table(df.iloc[:0])


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.geoparquet", "a.geojson", "a.gpkg", "a.xlsx", "a"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\x00nonsense"])
def test_unreadable_files_are_named(tmp_path: Path, name: Any, content: Any) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=name):
        read_table(path)


@pytest.mark.parametrize(
    "content", ["[]", '{"type": "FeatureCollection", "features": []}', '{"type": "Point"}', '{"features": [1]}']
)
def test_geojson_that_is_no_table(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(InvalidInput, match=r"a\.geojson"):
        read_table(tmp_path / "a.geojson")


def test_what_parquet_would_change_is_exported_as_json_text(tmp_path: Path) -> None:
    df = pd.DataFrame(
        {
            "mixed": ["a", 1, None],
            "options": [{"memory": "2g"}, {"cores": 2}, {}],
            "same": [{"a": 1}, {"a": 2}, {"a": 3}],
            "bands": [["B02"], [], ["B03"]],
            "text": ["a", None, float("nan")],
            7: [1, 2, 3],
        }
    )
    export_table(df, tmp_path / "a.parquet")
    back = ParquetJobDatabase(tmp_path / "a.parquet").read()
    assert back["mixed"].tolist() == ['"a"', "1", None]
    assert [json.loads(value) for value in back["options"]] == df["options"].tolist()
    assert back["same"].tolist() == df["same"].tolist()
    assert [list(value) for value in back["bands"]] == df["bands"].tolist()
    assert back["text"].tolist() == ["a", None, None]
    assert back["7"].tolist() == [1, 2, 3]


def test_geojson_has_json_s_values_only(tmp_path: Path) -> None:
    df = box_table(
        a=[np.int64(1), 2, 3],
        b=[np.nan, 1.0, np.inf],
        c=pd.to_datetime(["2024-01-01", None, "2024-01-02"], utc=True),
        d=pd.Series([np.array([1, 2]), {"x": np.float32(1)}, date(2024, 1, 1)], dtype=object),
    ).to_crs(3035)
    df["centre"] = df.centroid
    export_table(df, tmp_path / "a.geojson")
    document = json.loads((tmp_path / "a.geojson").read_text(), parse_constant=pytest.fail)
    first, second, third = (feature["properties"] for feature in document["features"])
    assert (first["a"], first["b"], first["c"], first["d"]) == (1, None, "2024-01-01T00:00:00+00:00", [1, 2])
    assert (second["c"], second["d"], third["b"], third["d"]) == (None, {"x": 1.0}, None, "2024-01-01")
    assert first["centre"].startswith("POINT")
    assert document["features"][0]["geometry"]["coordinates"][0][0][0] < 1


def test_an_export_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("old")
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_table(job_table(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"cannot write .*jobs\.csv"):
        export_table(job_table(), tmp_path / "file" / "jobs.csv")
    with pytest.raises(InvalidInput, match=r"must end in \.csv"):
        export_table(job_table(), tmp_path / "jobs.xlsx")
    with pytest.raises(InvalidInput, match="no geometries"):
        export_table(pd.DataFrame({"a": [1]}), tmp_path / "jobs.geojson")


# Statuses.

T0 = datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp()
USAGE = json.dumps(
    {"cpu": {"value": 1234.5, "unit": "cpu-seconds"}, "memory": {"value": 2, "unit": "mb-seconds"}, "n": {"value": 1}}
)


def tile(order: Any, status: Any, **fields: Any) -> Any:
    return Tile(campaign="c", id=f"t{order}", order=order, status=status, **fields)


def test_the_exported_statuses_are_the_job_manager_s() -> None:
    assert set(table.STATUS_TO_MANAGER) == set(TileStatus)
    tiles = [tile(i, status, attempt=1, job_id=f"j-{i}", backend="cdse") for i, status in enumerate(TileStatus)]
    df = with_status(box_table(len(tiles), a=range(len(tiles))), reversed(tiles))
    assert df["fleet_status"].tolist() == [status.value for status in TileStatus]
    assert df["status"].tolist() == [table.STATUS_TO_MANAGER[status] for status in TileStatus]
    assert df["tile_id"].tolist() == [t.id for t in tiles]
    assert isinstance(df, gpd.GeoDataFrame)
    assert df.crs == 4326


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"failed_step": "submit"}, "start_failed"),
        ({"failed_step": "track", "job_id": "j"}, "error"),
        ({"failed_step": "postprocess", "job_id": "j"}, "finished"),
        ({"failed_step": "publish", "job_id": "j"}, "finished"),
    ],
)
def test_where_a_tile_failed_decides_what_the_job_manager_calls_it(fields: Any, status: Any) -> None:
    df = with_status(box_table(1), [tile(0, TileStatus.FAILED, error="out of memory", error_class="data", **fields)])
    assert df.loc[0, ["status", "fleet_status", "error", "error_class"]].tolist() == [
        status,
        "failed",
        "out of memory",
        "data",
    ]


def test_the_columns_of_a_job_database_are_filled() -> None:
    tiles = [
        tile(0, TileStatus.PUBLISHED, job_id="j-0", backend="cdse", attempt=2, submitted_at=T0, started_at=T0 + 60,
             finished_at=T0 + 120, published_at=T0 + 180, costs=4.0, usage=USAGE, items="i-0"),
        tile(1, TileStatus.RUNNING, job_id="j-1", backend="cdse", attempt=1, submitted_at=T0, started_at=T0, since=T0 + 5),
    ]  # fmt: skip
    df = with_status(box_table(), tiles)
    assert df["id"].tolist() == ["j-0", "j-1", None]
    assert df["backend_name"].tolist() == ["cdse", "cdse", None]
    assert df["status"].tolist() == ["finished", "running", "not_started"]
    assert df["start_time"].tolist() == ["2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z", None]
    assert df["running_start_time"].tolist() == ["2024-05-01T12:01:00Z", "2024-05-01T12:00:05Z", None]
    assert df["costs"].dtype == float
    assert df["costs"].tolist()[0] == 4
    assert df["cpu"].tolist() == ["1234.5 cpu-seconds", None, None]
    assert df["n"].tolist() == ["1", None, None]
    assert df["finished_time"].tolist() == ["2024-05-01T12:02:00Z", None, None]
    assert df["published_time"].tolist()[0] == "2024-05-01T12:03:00Z"
    assert df["attempt"].tolist() == [2, 1, None]


def test_columns_of_the_user_stay() -> None:
    df = box_table(memory=["2G"] * 3, attempt=[7, 8, 9], tile_id=[5, 6, 7], error=["x", "y", "z"])
    tiles = [tile(i, TileStatus.FINISHED, attempt=1, job_id="j", usage=USAGE, error="ours") for i in range(3)]
    filled = with_status(df, tiles)
    assert_frame_equal(filled[df.columns], df)
    assert filled["fleet_memory"].tolist() == ["2 mb-seconds"] * 3
    assert filled["fleet_attempt"].tolist() == [1, 1, 1]
    assert filled["fleet_tile_id"].tolist() == ["t0", "t1", "t2"]
    again = with_status(filled, [t.evolve(attempt=2) for t in tiles])
    assert list(again.columns) == list(filled.columns)
    assert again["fleet_attempt"].tolist() == [2, 2, 2]
    assert_frame_equal(again[df.columns], df)


def test_exports_can_be_exported_again() -> None:
    tiles = [tile(i, TileStatus.RUNNING, attempt=1, job_id="j", usage=USAGE) for i in range(3)]
    once = with_status(box_table(), tiles)
    twice = with_status(once, [t.evolve(attempt=2, status=TileStatus.FINISHED) for t in tiles])
    assert list(once.columns) == list(twice.columns)
    assert twice["attempt"].tolist() == [2, 2, 2]
    assert twice["fleet_status"].tolist() == ["finished"] * 3
    assert check_table(twice) == []


def test_rows_without_a_tile_keep_what_they_have() -> None:
    df = with_status(
        box_table(), [tile(i, TileStatus.PUBLISHED, job_id=f"j-{i}", costs=1.0, usage=USAGE) for i in range(3)]
    )
    later = with_status(df, [tile(1, TileStatus.FAILED, job_id="j-9", failed_step="track")])
    assert later["id"].tolist() == ["j-0", "j-9", "j-2"]
    assert later["status"].tolist() == ["finished", "error", "finished"]
    assert later["costs"].fillna(-1).tolist() == [1, -1, 1]


def test_the_tiles_of_another_table_are_refused() -> None:
    with pytest.raises(InvalidInput, match="1 tiles have no row in this table of 3 rows \\(first: 't3'\\)"):
        with_status(box_table(), [tile(3, TileStatus.QUEUED)])


@pytest.mark.parametrize("usage", ["", "null", "[]", "nonsense", '{"cpu": 5}'])
def test_usage_that_is_none(usage: Any) -> None:
    assert "cpu" not in with_status(box_table(1), [tile(0, TileStatus.FINISHED, usage=usage)])


@pytest.mark.parametrize(("suffix", "database"), [(".csv", CsvJobDatabase), (".parquet", ParquetJobDatabase)])
def test_exports_open_in_openeo_s_job_databases(tmp_path: Path, suffix: Any, database: Any) -> None:
    tiles = [
        tile(0, TileStatus.PUBLISHED, job_id="j-0", backend="cdse", submitted_at=T0, costs=4.0, usage=USAGE),
        tile(1, TileStatus.QUEUED, job_id="j-1", backend="cdse", submitted_at=T0),
    ]
    df = with_status(job_table(), tiles)
    export_table(df, tmp_path / f"jobs{suffix}")
    opened = database(tmp_path / f"jobs{suffix}")
    assert opened.count_by_status() == {"finished": 1, "queued": 1, "not_started": 1}
    queued = opened.get_by_status(["queued"])
    assert queued["id"].tolist() == ["j-1"]
    assert isinstance(queued.iloc[0].geometry, shapely.Polygon)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # openEO's own merge of columns of None
        opened.persist(queued.assign(status="running"))
    again = read_table(tmp_path / f"jobs{suffix}")
    assert again["status"].tolist() == ["finished", "running", "not_started"]
    assert again["costs"].tolist()[0] == 4
    assert again["cpu"].tolist()[0] == "1234.5 cpu-seconds"


def test_a_written_parquet_is_geoparquet(tmp_path: Path) -> None:
    export_table(box_table(), tmp_path / "a.parquet")
    assert b"geo" in pq.read_metadata(tmp_path / "a.parquet").metadata
