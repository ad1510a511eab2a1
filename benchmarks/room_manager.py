"""The tiles of bench_room.py by the job manager of the openEO Python client."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from openeo.extra.job_management import CsvJobDatabase, MultiBackendJobManager
from openeo.rest.connection import connect
from room_campaign import BACKEND, SLOTS, start_job, table

POLL_SLEEP = 0.5


def main() -> None:
    """Run all tiles; ends with an error if a job did not finish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("client", metavar="ID:SECRET")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    identifier, _, secret = arguments.client.partition(":")
    connection = connect(arguments.url, auto_validate=False)
    connection.authenticate_oidc_client_credentials(identifier, secret)
    manager: Any = MultiBackendJobManager(root_dir=arguments.folder / "jobs")
    manager.poll_sleep = POLL_SLEEP
    manager.add_backend(BACKEND, connection=connection, parallel_jobs=SLOTS)
    database = CsvJobDatabase(arguments.folder / "jobs.csv")
    manager.run_jobs(df=pd.DataFrame(table().drop(columns="geometry")), start_job=start_job, job_db=database)
    ends = database.read()["status"].value_counts().to_dict()
    if set(ends) != {"finished"}:
        raise SystemExit(f"jobs ended as {ends}")


if __name__ == "__main__":
    main()
