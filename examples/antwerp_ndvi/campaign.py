"""NDVI over a grid of 5 km cells around Antwerp: the mean of three summer months, one NetCDF per cell."""

import json

import openeo
import pandas as pd

from campaign import Backend, Campaign
from producer.grids import prepare_jobs_df, utm_grid


def table():
    grid = utm_grid(bounds=(595000, 5660000, 615000, 5680000), crs="EPSG:32631", size=5000)
    return prepare_jobs_df(["2024-05-01", "2024-08-01"], grid)


campaign = Campaign(
    name="antwerp-ndvi",
    table=table,
    backends=[
        Backend(
            name="cdse",
            url="https://openeo.dataspace.copernicus.eu",
            auth="client_credentials",
            parallel_jobs=2,
        )
    ],
    output="results",
)


def start_job(row: pd.Series, connection: openeo.Connection, **kwargs) -> openeo.BatchJob:
    spatial_extent = json.loads(row["spatial_extent"])
    startdate = row["start_date"]
    enddate = row["end_date"]

    cube = connection.load_collection(
        "SENTINEL2_L2A",
        temporal_extent=[startdate, enddate],
        spatial_extent=spatial_extent,
        bands=["B04", "B08"])

    ndvi_cube = cube.ndvi().mean_time()

    return ndvi_cube.create_job(
        title=f"test excercise ndvi",
        out_format="NetCDF",
        job_options={"executor-memory": "2G", "executor-memoryOverhead": "2G", "python-memory": "500m"}
    )
