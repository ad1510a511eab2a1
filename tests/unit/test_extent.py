"""Where tiles are, from the column `spatial_extent` in each of the forms that it is found in."""

from __future__ import annotations

import json
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from campaign.table.extent import with_geometry

BOX = {"west": 4.0, "south": 51.0, "east": 4.5, "north": 51.2}
POLYGON = json.loads(shapely.to_geojson(shapely.box(4.0, 51.0, 4.5, 51.2)))
FEATURE = {"type": "Feature", "properties": {}, "geometry": POLYGON}
UTM = {"west": 595000, "south": 5660000, "east": 600000, "north": 5665000, "crs": "EPSG:32631"}

FORMS: dict[str, Any] = {
    "box": BOX,
    "box as text": json.dumps(BOX),
    "box with its CRS": BOX | {"crs": "EPSG:4326"},
    "box with an EPSG number": BOX | {"crs": 4326},
    "polygon": POLYGON,
    "polygon as text": json.dumps(POLYGON),
    "feature": FEATURE,
    "collection as text": json.dumps({"type": "FeatureCollection", "features": [FEATURE]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form(form: str) -> None:
    found = with_geometry(pd.DataFrame({"spatial_extent": [FORMS[form]]}, index=["a"]))
    assert isinstance(found, gpd.GeoDataFrame)
    assert found.crs == "EPSG:4326"
    assert found.geometry.loc["a"].equals(shapely.box(4.0, 51.0, 4.5, 51.2))


def test_a_box_in_metres() -> None:
    (found,) = with_geometry(pd.DataFrame({"spatial_extent": [UTM]})).geometry
    west, south, east, north = UTM["west"], UTM["south"], UTM["east"], UTM["north"]
    box = shapely.segmentize(shapely.box(west, south, east, north), 100)
    (there,) = gpd.GeoSeries([box], crs="EPSG:32631").to_crs("EPSG:4326")
    assert found.symmetric_difference(there).area < 1e-5 * there.area


@pytest.mark.parametrize("extent", [None, float("nan"), "", "Antwerp", {}, {"west": 4}, '{"type": "Polygon"}', 7, []])
def test_a_row_that_does_not_say_has_none(extent: Any) -> None:
    found = with_geometry(pd.DataFrame({"spatial_extent": [BOX, extent]}))
    assert found.geometry.notna().tolist() == [True, False]
    alone = pd.DataFrame({"spatial_extent": [extent]})
    assert with_geometry(alone) is alone


def test_a_table_with_geometries_stays_as_it_is() -> None:
    table = gpd.GeoDataFrame({"spatial_extent": [UTM]}, geometry=[shapely.Point(0, 0)], crs="EPSG:4326")
    assert with_geometry(table) is table
    plain = pd.DataFrame({"a": [1]})
    assert with_geometry(plain) is plain
