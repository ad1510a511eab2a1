import json
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely

from campaign.errors import InvalidInput
from campaign.table import check_table, tile_ids
from producer.grids import prepare_jobs_df, utm_grid

ANTWERP = (595_000, 5_660_000, 600_000, 5_673_000)


def grid(bounds: Any = ANTWERP, crs: Any = "EPSG:32631", size: Any = 5000) -> Any:
    return utm_grid(bounds=bounds, crs=crs, size=size)


def seed_grid(bounds: Any = ANTWERP, size: Any = 5000, crs: Any = "EPSG:32631") -> Any:
    """As the notebook that users start from makes it, with the upper bound as it was meant."""
    x_coords = np.arange(bounds[0], bounds[2], size)
    y_coords = np.arange(bounds[1], bounds[3], size)
    polygons = [shapely.box(x, y, x + size, y + size) for x in x_coords for y in y_coords]
    return gpd.GeoDataFrame({"geometry": polygons}, crs=crs).to_crs("EPSG:4326")


def test_the_cells_are_those_of_the_notebook() -> None:
    ours, theirs = grid(), seed_grid()
    assert ours.crs == theirs.crs
    assert len(ours) == 3
    assert shapely.equals_exact(ours.geometry.array, theirs.geometry.array, 0).all()
    assert ours.index.tolist() == [0, 1, 2]


def test_cells_are_whole_and_cover_the_area() -> None:
    df = grid()
    assert df[["west", "south", "east", "north"]].to_numpy().tolist() == [
        [595_000, 5_660_000, 600_000, 5_665_000],
        [595_000, 5_665_000, 600_000, 5_670_000],
        [595_000, 5_670_000, 600_000, 5_675_000],
    ]
    assert (df["epsg"] == 32631).all()
    assert df["tile_id"].tolist() == ["32631_595000_5660000", "32631_595000_5665000", "32631_595000_5670000"]


def test_ids_do_not_depend_on_the_rest_of_the_grid() -> None:
    small = set(grid()["tile_id"])
    large = grid((580_000, 5_640_000, 620_000, 5_700_000))
    assert small < set(large["tile_id"])
    assert large["tile_id"].is_unique
    assert tile_ids(large) == large["tile_id"].tolist()
    assert check_table(large) == []


def test_ten_thousand_cells() -> None:
    df = grid((400_000, 5_000_000, 600_000, 5_200_000), size=2000)
    assert len(df) == 10_000
    cells = df.to_crs("EPSG:32631").geometry.area
    assert np.allclose(cells, 4e6, rtol=1e-6)


def test_the_slip_of_the_notebook_is_refused_with_its_cells_and_the_right_bound() -> None:
    with pytest.raises(InvalidInput) as caught:
        grid((595_000, 5_660_000, 600_000, 56_730_000))
    message = str(caught.value)
    assert "10,214 cells" in message
    assert "maxy is 56,730,000" in message
    assert "EPSG:32631" in message
    assert "y 0 to 9,329,005" in message
    assert "did you mean maxy 5,673,000 (3 cells)?" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crs": "EPSG:4326"}, "is geographic"),
        ({"crs": "EPSG:99999"}, "unknown CRS 'EPSG:99999'"),
        ({"crs": "EPSG:2263"}, "not projected in metres"),  # New York, in feet
        ({"crs": "+proj=laea +lat_0=51 +lon_0=4"}, "EPSG code"),
        ({"size": 0}, "more than 0"),
        ({"size": -10}, "more than 0"),
        ({"size": float("nan")}, "size must be whole metres"),
        ({"size": 0.5}, "size must be whole metres"),
        ({"bounds": (595_000, 5_660_000, 595_000, 5_673_000)}, "bounds are empty: minx 595,000"),
        ({"bounds": (600_000, 5_660_000, 595_000, 5_673_000)}, "bounds are swapped: minx 600,000"),
        ({"bounds": (595_000, 5_673_000, 600_000, 5_660_000)}, "bounds are swapped: miny"),
        ({"bounds": (5_660_000, 595_000, 5_673_000, 600_000)}, "are x and y swapped"),
        ({"bounds": (595_000.5, 5_660_000, 600_000, 5_673_000)}, "minx must be whole metres"),
        ({"bounds": (4.3, 51.1, 4.5, 51.3)}, "look like degrees"),
        ({"bounds": (595_000, 5_660_000, 600_000)}, "3 numbers given"),
        ({"size": 1}, "65,000,000 cells of 1 m are more than"),
        ({"bounds": (5_950_000, 5_660_000, 6_000_000, 5_673_000)}, "outside the area of use"),
        ({"crs": "EPSG:32633"}, "the zone that the area lies in"),
        (
            {"bounds": (500_000, 6_500_000, 750_000, 6_600_000)},
            "reaches from 3.00 to 7.4. degrees east .* from 0 to 6 and",
        ),
    ],
)
def test_refused(arguments: Any, message: Any) -> None:
    bounds = arguments.get("bounds", ANTWERP)
    if arguments.get("crs") == "EPSG:32633":
        bounds = (100_000, 5_660_000, 105_000, 5_673_000)  # 9.3 E: zone 32
    with pytest.raises(InvalidInput, match=message):
        grid(**{**arguments, "bounds": bounds})


def test_a_country_that_straddles_its_zone_s_edge_is_one_grid() -> None:
    # Belgium: 2.5 to 6.4 E, and zone 31 ends at 6 E.
    assert len(grid((460_000, 5_480_000, 740_000, 5_710_000), size=20_000)) == 14 * 12


@pytest.mark.parametrize(
    ("crs", "bounds"),
    [
        ("EPSG:3035", (3_900_000, 3_000_000, 4_000_000, 3_100_000)),
        ("EPSG:2193", (1_500_000, 5_100_000, 1_600_000, 5_200_000)),
        ("EPSG:3413", (-200_000, -2_100_000, 100_000, -2_000_000)),
        ("EPSG:32731", (400_000, 9_000_000, 500_000, 9_100_000)),
        (32631, ANTWERP),
    ],
)
def test_other_projected_systems(crs: Any, bounds: Any) -> None:
    df = utm_grid(bounds=bounds, crs=crs, size=50_000)
    assert check_table(df) == []


def test_a_cell_across_the_antimeridian_has_two_sides() -> None:
    df = utm_grid(bounds=(700_000, 0, 900_000, 100_000), crs="EPSG:32660", size=100_000)
    across = df.geometry[df.geometry.geom_type == "MultiPolygon"]
    assert len(df) == 2
    assert len(across) == 1
    assert shapely.area(across.array).sum() < 1  # square degrees: not once around the world
    assert [part.bounds[0] < 0 for part in across.iloc[0].geoms] != [True, True]
    assert check_table(df) == []


def test_prepare_jobs_df_has_the_columns_of_the_notebook() -> None:
    tiles = grid()
    df = prepare_jobs_df(["2024-05-01", "2024-08-01"], tiles)
    assert isinstance(df, gpd.GeoDataFrame)
    assert set(tiles.columns) | {"spatial_extent", "start_date", "end_date"} == set(df.columns)
    assert set(df["start_date"]) == {"2024-05-01"}
    assert set(df["end_date"]) == {"2024-08-01"}
    for _, row in df.iterrows():
        assert row["spatial_extent"] == shapely.to_geojson(row.geometry)
        assert json.loads(row["spatial_extent"])["type"] == "Polygon"
    assert "spatial_extent" not in tiles


def test_prepare_jobs_df_brings_any_grid_to_longitude_and_latitude() -> None:
    utm = grid().to_crs("EPSG:32631")
    df = prepare_jobs_df(("2024-05-01", None), utm)
    assert df.crs == utm.crs
    assert 4 < json.loads(df["spatial_extent"][0])["coordinates"][0][0][0] < 5
    assert df["end_date"].isna().all()


@pytest.mark.parametrize("dates", ["2024-05-01", ["2024-05-01"], ["2024-08-01", "2024-05-01"], ["2024-05-01"] * 2])
def test_prepare_jobs_df_refuses_no_interval(dates: Any) -> None:
    with pytest.raises(InvalidInput, match="temporal_range"):
        prepare_jobs_df(dates, grid())


def test_prepare_jobs_df_refuses_a_grid_without_crs_or_geometry() -> None:
    with pytest.raises(InvalidInput, match="set_crs"):
        prepare_jobs_df(["2024-05-01", "2024-08-01"], grid().set_crs(None, allow_override=True))
    gap = grid()
    gap.loc[1, "geometry"] = None
    with pytest.raises(InvalidInput, match="row 1"):
        prepare_jobs_df(["2024-05-01", "2024-08-01"], gap)


def test_a_grid_s_id_names_the_tile_because_a_job_has_an_id_too() -> None:
    theirs = seed_grid().assign(id=range(3))
    df = prepare_jobs_df(["2024-05-01", "2024-08-01"], theirs)
    assert tile_ids(df) == ["0", "1", "2"]
    assert check_table(df) == []
    kept = prepare_jobs_df(["2024-05-01", "2024-08-01"], theirs.assign(tile_id=["a", "b", "c"]))
    assert tile_ids(kept) == ["a", "b", "c"]
