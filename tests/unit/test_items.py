"""Items from real files, checked against what pystac, the schemas and an independent computation say."""

from __future__ import annotations

import hashlib
import json
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
import shapely
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import CRS

from campaign.errors import FleetError, InvalidInput
from workers.items import JobInfo, UnreadableResult, build_item
from workers.raster import Statistics, blocks
from workers.schemas import InvalidItem, validate_item
from workers.stac import ID_PATTERN, RESERVED_IDS, item_id, jsonable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Ndvi = tuple[Path, NDArray[Any]]

JOB = JobInfo(
    backend_url="https://openeo.example/openeo/1.2/",
    job_id="j-2301",
    title="NDVI [fleet:demo/T1/1]",
    process_graph={"load1": {"process_id": "load_collection", "arguments": {"id": "S2"}, "result": True}},
    costs=3.5,
    usage={"cpu": {"value": 12.5, "unit": "cpu-seconds"}},
)
INTERVAL = (datetime(2023, 5, 1, tzinfo=UTC), datetime(2023, 6, 1, tzinfo=UTC))
SQUARE = {"type": "Polygon", "coordinates": [[[4, 51], [5, 51], [5, 52], [4, 52], [4, 51]]]}
ORIGIN = (600_000.0, 5_700_000.0)
EXPECTED = Path(__file__).parent / "expected"


def item_of(file: Path, **changes: Any) -> dict[str, Any]:
    arguments = {
        "item_id": "T1",
        "collection": "demo",
        "asset_key": "data",
        "href": f"./{file.name}",
        "interval": INTERVAL,
        "job": JOB,
        "properties": {},
    }
    item = build_item(file, **arguments | changes)
    assert json.loads(json.dumps(item, allow_nan=False)) == item
    validate_item(item)
    parsed = pystac.Item.from_dict(item)
    pystac.validation.validate_dict(parsed.to_dict() | {"stac_extensions": []})
    return item


def geotiff(  # noqa: PLR0913 - what a test may vary
    path: Path,
    data: NDArray[Any],
    *,
    crs: str = "EPSG:32631",
    origin: tuple[float, float] = ORIGIN,
    pixel: float = 10.0,
    names: Sequence[str] = (),
    **profile: Any,
) -> Path:
    data = data.reshape(-1, *data.shape[-2:])
    count, height, width = data.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=data.dtype, crs=crs,
        transform=rasterio.Affine(pixel, 0, origin[0], 0, -pixel, origin[1]), **profile,
    ) as dst:  # fmt: skip
        dst.write(data)
        for i, name in enumerate(names, 1):
            dst.set_band_description(i, name)
    return path


def netcdf(
    path: Path,
    bands: Mapping[str, NDArray[Any]],
    *,
    crs: str = "EPSG:32631",
    times: NDArray[Any] | None = None,
    ascending: bool = False,
    **encoding: Any,
) -> Path:
    """As CDSE writes it: band variables on (t, y, x) with a grid mapping `crs`."""
    rows, cols = next(iter(bands.values())).shape[-2:]
    y = 5_700_000 - 10 * (np.arange(rows) + 0.5)
    coords = {"x": 600_000 + 10 * (np.arange(cols) + 0.5), "y": y[::-1] if ascending else y}
    dims = ("t", "y", "x") if times is not None else ("y", "x")
    if times is not None:
        coords = {"t": times, **coords}
    data = {name: (dims, values, {"grid_mapping": "crs"}) for name, values in bands.items()}
    dataset = xr.Dataset(data, coords=coords)
    wkt = CRS(crs).to_wkt("WKT1_GDAL")
    dataset["crs"] = ((), b"", {"crs_wkt": wkt, "spatial_ref": wkt})
    dataset.to_netcdf(path, encoding=dict.fromkeys(bands, encoding) if encoding else None)
    return path


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.fixture
def ndvi(tmp_path: Path, rng: np.random.Generator) -> Ndvi:
    data = rng.random((3, 40, 30), dtype=np.float32)
    data[:, :4] = np.nan
    times = np.array(["2023-05-03", "2023-05-13", "2023-05-23T10:30:00"], dtype="datetime64[ns]")
    return netcdf(tmp_path / "ndvi.nc", {"NDVI": data, "COUNT": (data[:] > 0.5).astype(np.int16)}, times=times), data


class TestNetcdf:
    def test_bands_and_true_statistics(self, ndvi: Ndvi) -> None:
        file, data = ndvi
        bands = item_of(file)["assets"]["data"]["bands"]
        assert [(b["name"], b["data_type"]) for b in bands] == [("NDVI", "float32"), ("COUNT", "int16")]
        assert bands[0]["nodata"] == "nan"
        assert bands[0]["statistics"] == {
            "minimum": pytest.approx(np.nanmin(data)),
            "maximum": pytest.approx(np.nanmax(data)),
            "mean": pytest.approx(np.nanmean(data, dtype=np.float64)),
            "stddev": pytest.approx(np.nanstd(data, dtype=np.float64)),
            "valid_percent": 90.0,
        }

    def test_its_own_times_win_over_the_interval(self, ndvi: Ndvi) -> None:
        properties = item_of(ndvi[0])["properties"]
        assert properties["datetime"] == properties["start_datetime"] == "2023-05-03T00:00:00Z"
        assert properties["end_datetime"] == "2023-05-23T10:30:00Z"

    def test_grid(self, ndvi: Ndvi) -> None:
        item = item_of(ndvi[0])
        asset = item["assets"]["data"]
        assert item["properties"]["proj:code"] == asset["proj:code"] == "EPSG:32631"
        assert asset["proj:shape"] == [40, 30]
        assert asset["proj:transform"] == [10, 0, 600_000, 0, -10, 5_700_000]
        assert asset["proj:bbox"] == [600_000, 5_699_600, 600_300, 5_700_000]
        assert asset["gsd"] == 10
        assert asset["type"] == "application/netcdf"

    def test_rows_from_the_south_keep_their_order(self, tmp_path: Path) -> None:
        file = netcdf(tmp_path / "a.nc", {"B": np.ones((4, 5), np.float32)}, ascending=True)
        asset = item_of(file)["assets"]["data"]
        assert asset["proj:transform"] == [10, 0, 600_000, 0, 10, 5_699_960]
        assert asset["proj:bbox"] == [600_000, 5_699_960, 600_050, 5_700_000]

    def test_packed_values_keep_scale_and_offset(self, tmp_path: Path) -> None:
        data = np.array([[0.0, 0.5], [1.0, np.nan]])
        file = netcdf(
            tmp_path / "a.nc", {"B": data}, dtype="int16", scale_factor=0.5, add_offset=1.0, _FillValue=np.int16(-9999)
        )
        item = item_of(file)
        band = item["assets"]["data"]["bands"][0]
        assert (band["raster:scale"], band["raster:offset"], band["nodata"]) == (0.5, 1.0, -9999)
        assert band["statistics"]["minimum"] == -2
        assert band["statistics"]["valid_percent"] == 75
        assert any("/raster/" in uri for uri in item["stac_extensions"])

    def test_a_band_dimension_gives_a_band_per_label(self, tmp_path: Path) -> None:
        array = xr.DataArray(
            np.stack([np.zeros((2, 3)), np.ones((2, 3))]),
            dims=("bands", "y", "x"),
            coords={"bands": ["B04", "B08"], "y": [51.5, 50.5], "x": [3.5, 4.5, 5.5]},
        )
        array.to_netcdf(tmp_path / "a.nc")
        with netCDF4.Dataset(tmp_path / "a.nc", "a") as ds:
            ds["x"].units = "degrees_east"
        item = item_of(tmp_path / "a.nc")
        bands = item["assets"]["data"]["bands"]
        assert [(b["name"], b["statistics"]["mean"]) for b in bands] == [("B04", 0), ("B08", 1)]
        assert item["properties"]["proj:code"] == "EPSG:4326"
        assert item["bbox"] == [3, 50, 6, 52]
        assert item["assets"]["data"]["gsd"] == pytest.approx(90_800, rel=0.01)

    def test_an_all_nodata_band_has_no_statistics(self, tmp_path: Path) -> None:
        file = netcdf(tmp_path / "a.nc", {"B": np.full((4, 5), np.nan, np.float32)})
        assert "statistics" not in item_of(file)["assets"]["data"]["bands"][0]

    def test_chunks_over_time_are_read_whole(
        self, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workers.raster.BLOCK_VALUES", 50)
        data = rng.random((6, 11, 13))
        times = np.arange("2023-01-01", "2023-01-07", dtype="datetime64[D]").astype("datetime64[ns]")
        file = netcdf(tmp_path / "a.nc", {"B": data}, times=times, chunksizes=(4, 5, 6), zlib=True)
        statistics = item_of(file)["assets"]["data"]["bands"][0]["statistics"]
        assert statistics["mean"] == pytest.approx(data.mean(), rel=1e-8)
        assert statistics["stddev"] == pytest.approx(data.std(), rel=1e-8)

    def test_a_model_calendar_falls_back_to_the_interval(self, ndvi: Ndvi) -> None:
        with netCDF4.Dataset(ndvi[0], "a") as ds:
            ds["t"].calendar = "360_day"
        assert item_of(ndvi[0])["properties"]["datetime"] == "2023-05-01T00:00:00Z"


class TestGeotiff:
    def test_bands_statistics_and_nodata(
        self, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workers.raster.BLOCK_VALUES", 3000)
        data = rng.integers(0, 50, (2, 100, 120), dtype=np.uint16)
        file = geotiff(
            tmp_path / "a.tif", data, nodata=0, names=("B04", "B08"), tiled=True, blockxsize=32, blockysize=32
        )
        for band, values in zip(item_of(file)["assets"]["data"]["bands"], data, strict=True):
            valid = values[values != 0]
            assert band["nodata"] == 0
            assert band["statistics"]["minimum"] == valid.min()
            assert band["statistics"]["mean"] == pytest.approx(valid.mean(), rel=1e-8)
            assert band["statistics"]["stddev"] == pytest.approx(valid.std(), rel=1e-8)
            assert band["statistics"]["valid_percent"] == pytest.approx(100 * valid.size / values.size)

    def test_infinities_are_not_values(self, tmp_path: Path) -> None:
        data = np.array([[1, np.inf], [-np.inf, np.nan]], np.float64)
        band = item_of(geotiff(tmp_path / "a.tif", data, nodata=np.nan))["assets"]["data"]["bands"][0]
        assert band["nodata"] == "nan"
        assert band["statistics"] == {"minimum": 1, "maximum": 1, "mean": 1, "stddev": 0, "valid_percent": 25}

    def test_only_a_cog_is_called_one(self, tmp_path: Path, rng: np.random.Generator) -> None:
        data = rng.integers(0, 9, (1, 1100, 1100), dtype=np.uint8)
        plain = geotiff(tmp_path / "plain.tif", data)
        tiled = geotiff(tmp_path / "tiled.tif", data, tiled=True, blockxsize=256, blockysize=256)
        small = geotiff(tmp_path / "small.tif", data[:, :300, :300])
        rasterio.shutil.copy(plain, tmp_path / "cog.tif", driver="COG", compress="deflate")
        later = geotiff(tmp_path / "later.tif", data, tiled=True, blockxsize=256, blockysize=256)
        with rasterio.open(later, "r+") as dst:
            dst.build_overviews([2, 4])
        kinds = {
            f.stem: item_of(f)["assets"]["data"]["type"] for f in (plain, tiled, later, small, tmp_path / "cog.tif")
        }
        cog, geo = "image/tiff; application=geotiff; profile=cloud-optimized", "image/tiff; application=geotiff"
        assert kinds == {"plain": geo, "tiled": geo, "later": geo, "small": cog, "cog": cog}

    def test_a_crs_without_a_code_is_spelled_out(self, tmp_path: Path) -> None:
        crs = "+proj=laea +lat_0=12.3 +lon_0=4.5 +datum=WGS84 +units=m"
        asset = item_of(geotiff(tmp_path / "a.tif", np.ones((3, 3), np.uint8), crs=crs, origin=(0, 0)))["assets"][
            "data"
        ]
        assert asset["proj:code"] is None
        assert CRS.from_wkt(asset["proj:wkt2"]).equals(CRS(crs), ignore_axis_order=True)

    def test_without_a_place_the_tiles_geometry_is_taken(self, tmp_path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(
                tmp_path / "a.tif", "w", driver="GTiff", count=1, width=3, height=3, dtype="uint8"
            ) as dst:
                dst.write(np.ones((1, 3, 3), np.uint8))
        assert item_of(tmp_path / "a.tif", geometry=SQUARE)["bbox"] == [4, 51, 5, 52]
        with pytest.raises(InvalidInput, match="where it lies"):
            item_of(tmp_path / "a.tif")


class TestFootprint:
    @pytest.mark.parametrize(
        ("crs", "origin", "pixel"),
        [("EPSG:32631", (600_000, 5_700_000), 1000), ("EPSG:3035", (4e6, 3e6), 10_000), ("EPSG:4326", (3, 52), 0.01)],
    )
    def test_holds_every_pixel(self, tmp_path: Path, crs: str, origin: tuple[float, float], pixel: float) -> None:
        file = geotiff(tmp_path / "a.tif", np.ones((50, 60), np.uint8), crs=crs, origin=origin, pixel=pixel)
        geometry = shapely.geometry.shape(item_of(file)["geometry"])
        assert geometry.is_valid
        assert geometry.exterior.is_ccw
        rows, cols = np.mgrid[0.5:50:7, 0.5:60:7]
        x, y = origin[0] + cols.ravel() * pixel, origin[1] - rows.ravel() * pixel
        lon, lat = rasterio.warp.transform(crs, "EPSG:4326", x, y)
        assert shapely.contains_xy(geometry, lon, lat).all()

    def test_across_the_antimeridian(self, tmp_path: Path) -> None:
        file = geotiff(
            tmp_path / "a.tif", np.ones((10, 10), np.uint8), crs="EPSG:32601", origin=(3e5, 6.1e6), pixel=1e4
        )
        item = item_of(file)
        assert item["geometry"]["type"] == "MultiPolygon"
        west, south, east, north = item["bbox"]
        assert 179 < west < 180
        assert -180 < east < -178
        assert south < north
        assert shapely.geometry.shape(item["geometry"]).area < 3

    def test_up_to_the_antimeridian(self, tmp_path: Path) -> None:
        data = np.ones((10, 10), np.uint8)
        for west, bbox in ((179, [179, 0, 180, 1]), (180, [-180, 0, -179, 1]), (-180, [-180, 0, -179, 1])):
            item = item_of(geotiff(tmp_path / "a.tif", data, crs="EPSG:4326", origin=(west, 1), pixel=0.1))
            assert item["geometry"]["type"] == "Polygon"
            assert item["bbox"] == bbox

    def test_a_pole(self, tmp_path: Path) -> None:
        file = geotiff(tmp_path / "a.tif", np.ones((10, 10), np.uint8), crs="EPSG:3031", origin=(-1e6, 1e6), pixel=2e5)
        item = item_of(file)
        assert item["bbox"][:3] == [-180, -90, 180]
        assert shapely.geometry.shape(item["geometry"]).contains(shapely.Point(0, -89.9))

    @pytest.mark.parametrize("west", [-180, 0])
    def test_the_whole_earth(self, tmp_path: Path, west: float) -> None:
        file = geotiff(tmp_path / "a.tif", np.ones((18, 36), np.uint8), crs="EPSG:4326", origin=(west, 90), pixel=10)
        assert item_of(file)["bbox"] == [-180, -90, 180, 90]


class TestItem:
    def test_file_size_and_checksum(self, ndvi: Ndvi) -> None:
        asset = item_of(ndvi[0])["assets"]["data"]
        content = ndvi[0].read_bytes()
        assert asset["file:size"] == len(content)
        assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()

    def test_says_which_job_made_it(self, ndvi: Ndvi) -> None:
        item = item_of(ndvi[0])
        (via,) = [link for link in item["links"] if link["rel"] == "via"]
        assert via["href"] == "https://openeo.example/openeo/1.2/jobs/j-2301"
        (provider,) = item["properties"]["providers"]
        assert provider["roles"] == ["processor"]
        assert provider["processing:expression"] == {"format": "openeo", "expression": JOB.process_graph}
        assert item["properties"]["openeo:costs"] == 3.5

    def test_properties_become_json(self, ndvi: Ndvi) -> None:
        given_ = {
            "grid:code": "MGRS-31UFS",
            "cloud": np.float32(0.5),
            "none": np.nan,
            "day": np.datetime64("2023-01-01T00:00:00", "us"),
            "n": (1, 2),
        }
        properties = item_of(ndvi[0], properties=given_)["properties"]
        assert {k: properties[k] for k in given_} == {
            "grid:code": "MGRS-31UFS", "cloud": 0.5, "none": None, "day": "2023-01-01T00:00:00Z", "n": [1, 2],
        }  # fmt: skip

    def test_is_the_same_every_time(self, ndvi: Ndvi) -> None:
        assert json.dumps(item_of(ndvi[0])) == json.dumps(item_of(ndvi[0]))

    @pytest.mark.parametrize(
        ("name", "media_type"),
        [("a.csv", "text/csv"), ("a.json", "application/json"), ("a.parquet", "application/vnd.apache.parquet")],
    )
    def test_other_files(self, tmp_path: Path, name: str, media_type: str) -> None:
        (tmp_path / name).write_text("{}")
        item = item_of(tmp_path / name, geometry=SQUARE)
        asset = item["assets"]["data"]
        assert (asset["type"], asset["roles"], asset["file:size"]) == (media_type, ["data"], 2)
        assert not any("projection" in uri for uri in item["stac_extensions"])

    def test_needs_a_time(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="temporal extent"):
            item_of(geotiff(tmp_path / "a.tif", np.ones((3, 3), np.uint8)), interval=None)

    def test_an_id_that_is_not_safe(self, ndvi: Ndvi) -> None:
        with pytest.raises(InvalidInput, match="item_id"):
            item_of(ndvi[0], item_id="../a")


class TestDamage:
    def test_is_told_with_the_name_of_the_file(self, tmp_path: Path, ndvi: Ndvi, rng: np.random.Generator) -> None:
        good = geotiff(tmp_path / "good.tif", rng.random((3, 200, 200)))
        damaged = {
            "cut.tif": good.read_bytes()[:-200_000],
            "html.tif": b"<html>Gateway timeout</html>",
            "cut.nc": ndvi[0].read_bytes()[:-4000],
            "html.nc": b"<html>Gateway timeout</html>",
            "empty.csv": b"",
        }
        for name, content in damaged.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(UnreadableResult, match=name) as raised:
                item_of(tmp_path / name, geometry=SQUARE)
            assert isinstance(raised.value, FleetError)

    def test_a_flipped_byte(self, tmp_path: Path, rng: np.random.Generator) -> None:
        file = netcdf(tmp_path / "a.nc", {"B": rng.random((100, 100))}, zlib=True, chunksizes=(50, 50))
        content = bytearray(file.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = b"\0" * 64
        file.write_bytes(content)
        with pytest.raises(UnreadableResult, match=r"a\.nc"):
            item_of(file)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableResult, match="No such file"):
            item_of(tmp_path / "none.tif")


class TestValidation:
    @pytest.fixture
    def item(self, ndvi: Ndvi) -> dict[str, Any]:
        return item_of(ndvi[0], properties={"grid:code": "MGRS-31UFS"})

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("stac_version",), "1.0.0"),
            (("bbox",), [1, 2]),
            (("properties", "datetime"), "yesterday"),
            (("properties", "datetime"), "2023-05-01T00:00:00"),
            (("properties", "grid:code"), "31 UFS"),
            (("properties", "proj:code"), 32631),
            (("properties", "processing:software"), "openeo-fleet"),
            (("properties", "providers", 0, "processing:expression"), {"expression": {}}),
            (("assets", "data", "file:size"), "12"),
            (("assets", "data", "file:checksum"), "sha256:12"),
            (("assets", "data", "proj:shape"), [1]),
            (("assets", "data", "proj:epsg"), 32631),
            (("assets", "data", "bands", 0, "data_type"), "float"),
            (("assets", "data", "bands", 0, "statistics"), {"minimum": None}),
            (("collection",), ""),
        ],
    )
    def test_finds_what_is_wrong(self, item: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
        *parents, last = path
        place = item
        for key in parents:
            place = place[key]
        place[last] = value
        with pytest.raises(InvalidItem, match="T1"):
            validate_item(item)

    def test_an_extension_of_the_users_own_is_not_fetched(self, item: dict[str, Any]) -> None:
        item["stac_extensions"].append("https://no-such-host.invalid/schema.json")
        validate_item(item)


@given(st.text())
def test_item_ids_are_safe(text: str) -> None:
    made = item_id(text)
    assert ID_PATTERN.fullmatch(made)
    assert made not in RESERVED_IDS
    assert item_id(made) == made


@given(st.lists(st.text(alphabet="ab/ .:é-", max_size=6), unique=True))
def test_item_ids_do_not_collide(texts: list[str]) -> None:
    assert len({item_id(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("text", ["catalog", "..", ".hidden", "-x", "", "a" * 300, "T31UFS:2023/05", "\ud800"])
def test_item_ids_that_must_change(text: str) -> None:
    assert item_id(text) != text


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_jsonable_never_gives_nan(value: Any) -> None:
    json.dumps(jsonable(value), allow_nan=False)


@pytest.mark.parametrize("unit", ["D", "s", "ns"])
def test_jsonable_times(unit: str) -> None:
    times = np.array(["2023-05-01", "NaT"], dtype=f"datetime64[{unit}]")
    expected = "2023-05-01T00:00:00Z"
    assert jsonable(times) == [expected, None]
    assert jsonable(times[0]) == expected
    assert jsonable([pd.Timestamp("2023-05-01T02:00+02:00"), pd.NaT]) == [expected, None]


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=3),
    st.sampled_from([1, 7, 64, 1000, 10**6]),
)
def test_blocks_cover_everything_once(axes: list[tuple[int, int]], limit: int) -> None:
    shape, chunk = zip(*axes, strict=True)
    assume(np.prod(shape) <= 10**4)
    seen = np.zeros(shape, int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.raster.BLOCK_VALUES", limit)
        for block in blocks(shape, chunk):
            assert seen[block].size <= limit
            seen[block] += 1
    assert (seen == 1).all()


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), max_size=20), min_size=1))
def test_statistics_do_not_depend_on_the_blocks(parts: list[list[float]]) -> None:
    statistics = Statistics()
    for part in parts:
        statistics.add(np.ma.asarray(np.array(part)))
    everything = np.concatenate([np.array(part, float) for part in parts])
    found = statistics.to_dict()
    if not everything.size:
        assert found is None
    else:
        assert found["mean"] == pytest.approx(everything.mean(), rel=1e-6, abs=1e-6)
        assert found["stddev"] == pytest.approx(everything.std(), rel=1e-6, abs=1e-5)


def test_golden(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What users get, to look at in review; refresh with `pytest tests/unit/test_items.py --update-expectations`."""
    data = (np.arange(600, dtype=np.float32) / 600).reshape(20, 30)
    data[0] = np.nan
    times = np.array(["2023-05-03"], dtype="datetime64[ns]")
    files = [
        geotiff(tmp_path / "ndvi.tif", data, nodata=np.nan, names=("NDVI",)),
        netcdf(tmp_path / "ndvi.nc", {"NDVI": data[None]}, times=times),
    ]
    for file in files:
        item = item_of(file, properties={"grid:code": "MGRS-31UFS"})
        # These change with the versions of GDAL and netCDF and of openeo-fleet.
        item["assets"]["data"] |= {"file:size": 0, "file:checksum": "1220"}
        item["properties"]["processing:software"] = {"openeo-fleet": "0"}
        golden = EXPECTED / f"{file.name}.json"
        if request.config.getoption("--update-expectations", default=False):
            golden.parent.mkdir(exist_ok=True)
            golden.write_text(json.dumps(item, indent=2) + "\n")
        assert item == json.loads(golden.read_text())
