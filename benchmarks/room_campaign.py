"""The campaign of bench_room.py: jobs that compute nothing, so that what counts is how soon the next one starts.

`BENCH_TILES` says how many tiles, `BENCH_BACKEND` (JSON) holds settings of the back-end; those that `Backend` does not
have are left out.
"""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

from campaign import Backend, Campaign
from producer.grids import prepare_jobs_df, utm_grid

if TYPE_CHECKING:
    import geopandas as gpd

NAME, BACKEND = "room", "bench"
SLOTS = 20
_ROWS, _METRES = 10, 1000
_WEST, _SOUTH = 595_000, 5_660_000


def wanted_settings() -> dict[str, Any]:
    """The settings of the back-end that the environment asks for and `Backend` has."""
    wanted = json.loads(os.environ.get("BENCH_BACKEND", "{}"))
    return {name: value for name, value in wanted.items() if name in Backend.model_fields}


def table() -> gpd.GeoDataFrame:
    """The tiles."""
    number = int(os.environ.get("BENCH_TILES", "200"))
    east, north = _WEST + _METRES * math.ceil(number / _ROWS), _SOUTH + _METRES * _ROWS
    grid = utm_grid(bounds=(_WEST, _SOUTH, east, north), crs="EPSG:32631", size=_METRES)
    return prepare_jobs_df(["2024-05-01", "2024-08-01"], grid.head(number))


campaign = Campaign(
    name=NAME,
    table=table,
    backends=[
        Backend(
            name=BACKEND,
            url="http://127.0.0.1:9/openeo/1.2",
            auth="client_credentials",
            parallel_jobs=SLOTS,
            poll_interval=0.5,
            **wanted_settings(),
        )
    ],
)


def start_job(row: Any, connection: Any, **_: Any) -> Any:
    """Create the job of one tile, as the users' notebooks do."""
    cube = connection.load_collection(
        "SENTINEL2_L2A",
        temporal_extent=[row["start_date"], row["end_date"]],
        spatial_extent=json.loads(row["spatial_extent"]),
        bands=["B04", "B08"],
    )
    return cube.ndvi().mean_time().create_job(title=f"room {row['tile_id']}", out_format="NetCDF")
