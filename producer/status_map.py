"""The grid coloured by status: one HTML file that opens in any browser and asks nothing of any network."""

from __future__ import annotations

import html
import math
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from campaign.errors import InvalidInput
from campaign.table.files import write_file
from campaign.tile import TileStatus

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    import geopandas as gpd
    import pandas as pd
    from numpy.typing import NDArray

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        TileStatus.NOT_STARTED.value: "lightgrey",
        TileStatus.SUBMITTING.value: "khaki",
        TileStatus.CREATED.value: "gold",
        "queued_for_start": "lightskyblue",
        "queued_for_start_failed": "salmon",
        TileStatus.QUEUED.value: "lightsteelblue",
        TileStatus.RUNNING.value: "navy",
        TileStatus.FINISHED.value: "lime",
        TileStatus.POSTPROCESSED.value: "limegreen",
        TileStatus.PUBLISHED.value: "darkgreen",
        TileStatus.FAILED.value: "darkred",
        "error": "darkred",
        "start_failed": "red",
        TileStatus.CANCELED.value: "mediumpurple",
        TileStatus.SKIPPED.value: "darkorange",
    }
)
"""Colour of each status in the order of a tile's life: the ones that maps of the job manager have, and ours between."""

UNKNOWN = "grey"
"""Of a status that is not in `COLOURS`, and of none."""

_HOVER = ("job id", "attempt", "costs", "error")
_SOURCES = MappingProxyType({"job id": "id", "attempt": "attempt", "costs": "costs", "error": "error"})
_LONGEST_TEXT = 300
_LINE = 80

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
"""The page's Content-Security-Policy: the browser itself refuses every request, whatever the table holds."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>html, body {{ height: 100%; margin: 0; }}</style>
</head>
<body>
{figure}
</body>
</html>
"""


def status_map(df: gpd.GeoDataFrame, title: str) -> Any:
    """The tiles on a map, coloured by status.

    Args:
        df: as `campaign.table.with_status` makes it, or any job database with geometries: coloured by `fleet_status`
            if there is one, else by `status`. Any CRS; without one, longitude and latitude.
        title: shown above the map.

    Returns:
        A `plotly.graph_objects.Figure`: for each status that occurs one trace of areas, named with the number of its
        tiles, and one of what to show when the pointer is over a tile.

    Raises:
        InvalidInput: plotly is not installed, or the table has no geometry or no status.
    """
    go = _plotly("graph_objects")
    lonlat, statuses = _lonlat(df), _statuses(df)
    hover = _hover_texts(df, statuses)
    counts = statuses.value_counts()
    figure = go.Figure(layout=_layout(lonlat, f"{title} ({len(df):,} tiles)"))
    for status in sorted(counts.index, key=_place):
        rows = (statuses == status).to_numpy()
        for trace in _traces(lonlat[rows], hover[rows], status, f"{status} ({counts[status]:,})"):
            figure.add_trace(go.Scatter(trace))
    return figure


def write_status_map(df: gpd.GeoDataFrame, path: str | os.PathLike[str], title: str) -> None:
    """Write the map to an HTML file of its own: plotly.js is inside, nothing is fetched.

    A browser that reloads sees the old page or the new one, never half of it.

    Raises:
        InvalidInput: as `status_map`; or the folder cannot be written.
    """
    figure = status_map(df, title)
    drawn = _plotly("io").to_html(
        figure, include_plotlyjs=True, full_html=False, config={"displaylogo": False}, default_height="100vh"
    )
    page = _PAGE.format(policy=_POLICY, title=html.escape(title), figure=drawn)
    write_file(Path(path), lambda file: file.write(page.encode()))


def _plotly(module: str) -> Any:
    try:
        return import_module(f"plotly.{module}")
    except ImportError as error:
        raise InvalidInput("the status map needs plotly: pip install 'openeo-fleet[dashboard]'") from error


def _place(status: str) -> tuple[int, str]:
    """Where the legend has it."""
    known = list(COLOURS)
    return (known.index(status) if status in COLOURS else len(known), status)


def _lonlat(df: gpd.GeoDataFrame) -> NDArray[np.object_]:
    """The geometries in degrees, on one side of the antimeridian: longitudes there run from 0 to 360."""
    if getattr(df, "active_geometry_name", None) not in df.columns:
        raise InvalidInput("the table has no geometry column: there is nothing to draw")
    geometries = df.geometry if df.crs is None else df.geometry.to_crs("EPSG:4326")
    lonlat: NDArray[np.object_] = geometries.to_numpy()
    west, _, east, _ = shapely.total_bounds(lonlat)
    if east - west > 180:  # noqa: PLR2004
        shifted = shapely.transform(
            lonlat, lambda points: np.where([True, False] & (points < 0), points + np.array([360, 0]), points)
        )
        bounds = shapely.total_bounds(shifted)
        if bounds[2] - bounds[0] < 180:  # noqa: PLR2004
            return shifted
    return lonlat


def _statuses(df: gpd.GeoDataFrame) -> pd.Series[str]:
    name = "fleet_status" if "fleet_status" in df.columns else "status"
    if name not in df.columns:
        raise InvalidInput("the table has no status column: there is nothing to colour the tiles by")
    statuses: pd.Series[str] = df[name].fillna("unknown").astype(str).map(_shown)
    return statuses


def _hover_texts(df: gpd.GeoDataFrame, statuses: pd.Series[str]) -> NDArray[np.object_]:
    """One text per tile, of what is known of it."""
    tiles = df["tile_id"] if "tile_id" in df.columns else df.index
    facts = {label: df[column].tolist() for label, column in _SOURCES.items() if column in df.columns}
    texts = [
        "<br>".join(
            [
                f"<b>{_shown(tile)}</b>",
                status,
                *(f"{label}: {_shown(facts[label][row])}" for label in facts if _known(facts[label][row])),
            ]
        )
        for row, (tile, status) in enumerate(zip(tiles, statuses, strict=True))
    ]
    return np.array(texts, dtype=object)


def _known(value: object) -> bool:
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


def _shown(value: object) -> str:
    """As text in which nothing is markup: plotly.js reads some HTML in every text it shows."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = " ".join(str(value).split())
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}..."
    return "<br>".join(html.escape(text[i : i + _LINE]) for i in range(0, len(text), _LINE))


def _traces(
    lonlat: NDArray[np.object_], hover: NDArray[np.object_], status: str, name: str
) -> Iterator[dict[str, Any]]:
    """The areas of a status, and a point inside each of its tiles that carries what to show there."""
    colour = COLOURS.get(status, UNKNOWN)
    polygonal = np.isin(shapely.get_dimensions(lonlat), [2])
    x, y = _outlines(lonlat[polygonal])
    common = {"type": "scatter", "legendgroup": status, "name": name}
    yield common | {
        "x": x,
        "y": y,
        "mode": "lines",
        "fill": "toself",
        "fillcolor": colour,
        "line": {"color": "black", "width": 0.4},
        "hoverinfo": "skip",
        "showlegend": bool(polygonal.any()),
    }
    there = ~(shapely.is_missing(lonlat) | shapely.is_empty(lonlat))
    points = shapely.centroid(lonlat[there])
    yield common | {
        "x": shapely.get_x(points),
        "y": shapely.get_y(points),
        "mode": "none" if polygonal[there].all() else "markers",
        "marker": {"color": colour, "line": {"color": "black", "width": 0.4}},
        "text": hover[there],
        "hovertemplate": "%{text}<extra></extra>",
        "hoverlabel": {"bgcolor": colour},
        "showlegend": not polygonal.any(),
    }


def _outlines(polygons: NDArray[np.object_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All rings one after the other, NaN between them; holes run the other way round."""
    rings = shapely.get_rings(shapely.get_parts(shapely.normalize(polygons)))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    ends = np.flatnonzero(np.diff(ring)) + 1
    gaps = np.insert(points, ends, np.nan, axis=0)
    return gaps[:, 0], gaps[:, 1]


def _layout(lonlat: NDArray[np.object_], title: str) -> dict[str, Any]:
    _, south, _, north = shapely.total_bounds(lonlat)
    middle = (south + north) / 2 if math.isfinite(south) else 0.0
    degrees = {"ticksuffix": "°", "zeroline": False, "constrain": "domain", "gridcolor": "#eee"}
    return {
        "title": {"text": _shown(title)},
        "template": "none",
        "xaxis": {**degrees, "title": {"text": "longitude"}},
        # A degree of longitude is shorter than one of latitude.
        "yaxis": {
            **degrees,
            "title": {"text": "latitude"},
            "scaleanchor": "x",
            "scaleratio": 1 / max(math.cos(math.radians(middle)), 0.1),
        },
        "margin": {"r": 20, "t": 60, "l": 70, "b": 60},
        "legend": {"title": {"text": "status (tiles)"}, "itemsizing": "trace"},
        "hovermode": "closest",
        "hoverdistance": -1,  # however far the tile's middle is
        "dragmode": "pan",
    }
