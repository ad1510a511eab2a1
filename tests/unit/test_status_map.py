import re
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import shapely

from campaign.errors import InvalidInput
from campaign.table import with_status
from campaign.tile import Tile, TileStatus
from producer.grids import utm_grid
from producer.status_map import COLOURS, UNKNOWN, status_map, write_status_map

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:alert(1)'>x</a>%{x}&amp;"


def tiles_table(statuses: Any = tuple(TileStatus), **fields: Any) -> Any:
    grid = utm_grid(bounds=(500_000, 5_600_000, 500_000 + 5000 * len(statuses), 5_605_000), crs="EPSG:32631", size=5000)
    tiles = [
        Tile(campaign="c", id=name, order=i, status=status, job_id=f"j-{i}", attempt=1, **fields)
        for i, (name, status) in enumerate(zip(grid["tile_id"], statuses, strict=True))
    ]
    return with_status(grid, tiles)


def areas(figure: Any) -> list[Any]:
    return [trace for trace in figure.data if trace.fill == "toself"]


def hovers(figure: Any) -> list[Any]:
    return [trace for trace in figure.data if trace.fill != "toself"]


def rings(trace: Any) -> int:
    return int(np.isnan(trace.x).sum()) + 1 if len(trace.x) else 0


def test_every_status_has_its_colour_and_its_count_in_the_order_of_a_tile_s_life() -> None:
    figure = status_map(tiles_table([*TileStatus, TileStatus.RUNNING]), "Antwerp")
    assert isinstance(figure, go.Figure)
    assert [trace.name for trace in areas(figure)] == [f"{s} ({2 if s == 'running' else 1})" for s in TileStatus]
    assert [rings(trace) for trace in areas(figure)] == [2 if s == "running" else 1 for s in TileStatus]
    assert [trace.fillcolor for trace in areas(figure)] == [COLOURS[s] for s in TileStatus]
    assert figure.layout.title.text == "Antwerp (12 tiles)"


def test_the_job_manager_s_colours_are_kept() -> None:
    known = {
        "not_started": "lightgrey",
        "created": "gold",
        "queued": "lightsteelblue",
        "running": "navy",
        "finished": "lime",
        "error": "darkred",
        "skipped": "darkorange",
        "start_failed": "red",
    }
    assert known.items() <= COLOURS.items()
    assert set(TileStatus) <= set(COLOURS)
    df = tiles_table()[["geometry"]].iloc[:3].assign(status=["error", None, "odd"])
    assert [(t.name, t.fillcolor) for t in areas(status_map(df, ""))] == [
        ("error (1)", "darkred"),
        ("odd (1)", UNKNOWN),
        ("unknown (1)", UNKNOWN),
    ]


def test_what_is_shown_of_a_tile() -> None:
    figure = status_map(
        tiles_table([TileStatus.FAILED], costs=4.0, error="out of\nmemory " + "x" * 500, failed_step="track"), ""
    )
    (text,) = hovers(figure)[0].text
    lines = text.split("<br>")
    assert lines[:5] == ["<b>32631_500000_5600000</b>", "failed", "job id: j-0", "attempt: 1", "costs: 4"]
    assert lines[5].startswith("error: out of memory xxx")
    assert max(map(len, lines)) < 100
    assert text.endswith("x...")
    (text,) = hovers(status_map(tiles_table([TileStatus.NOT_STARTED]), ""))[0].text
    assert "costs" not in text
    assert "error" not in text


def test_text_of_the_user_is_text(tmp_path: Path) -> None:
    df = tiles_table([TileStatus.FAILED], error=HOSTILE).assign(tile_id=HOSTILE, id=HOSTILE)
    df["fleet_status"] = HOSTILE
    figure = status_map(df, HOSTILE)
    for text in (hovers(figure)[0].text[0], figure.layout.title.text, areas(figure)[0].name):
        assert not re.search(r"<(?!/?b>|br>)", text)
    write_status_map(df, tmp_path / "map.html", HOSTILE)
    page = (tmp_path / "map.html").read_text()
    assert "<img" not in page.split("<title>")[1].split("</title>")[0]
    assert "alert(1)</script>" not in page
    assert "<script>alert" not in page


def test_the_page_names_no_other_place_to_fetch_from(tmp_path: Path) -> None:
    write_status_map(tiles_table(), tmp_path / "maps" / "map.html", "Antwerp")
    page = (tmp_path / "maps" / "map.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=[\"']?(https?:)?//", page)
    assert "default-src 'none'" in page
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["map.html"]


def test_holes_points_gaps_and_any_crs() -> None:
    ring = shapely.box(0, 50, 3, 53).difference(shapely.box(1, 51, 2, 52))
    halves = shapely.MultiPolygon([shapely.box(4, 50, 5, 51), shapely.box(6, 50, 7, 51)])
    df = gpd.GeoDataFrame(
        {"status": ["running", "running", "queued", "error", "error"]},
        geometry=[ring, halves, shapely.Point(1, 50), None, shapely.Polygon()],
        crs=4326,
    ).to_crs(3035)
    figure = status_map(df, "")
    named = {trace.name: trace for trace in areas(figure)}
    assert rings(named["running (2)"]) == 4
    assert rings(named["queued (1)"]) == rings(named["error (2)"]) == 0
    assert [trace.mode for trace in hovers(figure)] == ["markers", "none", "none"]
    assert [len(trace.x) for trace in hovers(figure)] == [1, 2, 0]
    assert np.nanmax(named["running (2)"].x) == pytest.approx(7)
    assert figure.layout.yaxis.scaleratio == pytest.approx(1 / np.cos(np.radians(51.5)))


def test_a_grid_across_the_antimeridian_is_in_one_piece() -> None:
    df = gpd.GeoDataFrame({"status": ["running"] * 2}, geometry=shapely.box([179, -180], 0, [180, -179], 1), crs=4326)
    (trace,) = areas(status_map(df, ""))
    assert (np.nanmin(trace.x), np.nanmax(trace.x)) == (179, 181)
    (whole,) = areas(status_map(df.assign(geometry=shapely.box([-180, 0], 0, [0, 180], 1)), ""))
    assert (np.nanmin(whole.x), np.nanmax(whole.x)) == (-180, 180)


@pytest.mark.parametrize(
    ("df", "message"),
    [
        (tiles_table()[["geometry"]], "no status column"),
        (pd.DataFrame({"status": ["running"]}), "no geometry column"),
        (gpd.GeoDataFrame({"status": ["running"]}), "no geometry column"),
    ],
)
def test_nothing_to_draw(df: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        status_map(df, "")


def test_without_plotly_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(InvalidInput, match=r"pip install 'openeo-fleet\[dashboard\]'"):
        status_map(tiles_table(), "")
