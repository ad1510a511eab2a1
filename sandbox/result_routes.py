"""Routes of a job's results: metadata, items, assets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from sandbox.errors import OpenEOError
from sandbox.results import Results

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.backend import Backend
    from sandbox.store import Job


def result_routes(backend: Backend) -> list[Route]:
    """`/jobs/{id}/results` and what is below it."""
    routes = _ResultRoutes(backend)
    return [
        Route("/jobs/{job_id}/results", routes.metadata, methods=["GET"]),
        Route("/jobs/{job_id}/results/items/{item_id}", routes.item, methods=["GET"]),
        Route("/jobs/{job_id}/results/assets/{name}", routes.asset, methods=["GET"]),
    ]


class _ResultRoutes:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def metadata(self, request: Request) -> Response:
        return JSONResponse(self._results(request).document())

    async def item(self, request: Request) -> Response:
        item = self._results(request).item(request.path_params["item_id"])
        if item is None:
            raise OpenEOError("NotFound", f"There is no item {request.path_params['item_id']!r}.")
        return JSONResponse(item, media_type="application/geo+json")

    async def asset(self, request: Request) -> Response:
        job, name = self._finished(request), request.path_params["name"]
        known = {file["name"]: file for file in (job.outcome or {}).get("files", [])}
        path = self._backend.runner.job_folder(job.id) / Path(name).name
        if name not in known or not path.is_file():
            raise OpenEOError("FileNotFound", f"File {name!r} does not exist.")
        return FileResponse(path, media_type=known[name]["media_type"], filename=name)

    def _results(self, request: Request) -> Results:
        job = self._finished(request)
        url = f"{self._backend.root(request)}/jobs/{job.id}/results"
        behaviour = self._backend.behaviour

        def link(below: str) -> str:
            target = url + quote(below)
            if not behaviour.signed_urls:
                return target
            path = target.split(request.url.netloc, 1)[1]
            return self._backend.auth.signed(target, path, job.user, behaviour.url_seconds)

        return Results(job, url, link, behaviour)

    def _finished(self, request: Request) -> Job:
        """The job, if it has results.

        Raises:
            OpenEOError: JobNotFinished or JobFailed if not.
        """
        job = self._backend.store.get(self._backend.user_of_link(request), request.path_params["job_id"])
        if job.status == "error" and self._backend.behaviour.failed_results_status == 424:  # noqa: PLR2004 - HTTP
            raise OpenEOError("JobFailed", "The job has failed; see its logs.")
        if job.status != "finished":
            raise OpenEOError("JobNotFinished", f"Batch job has not finished computing the results yet: {job.status}.")
        return job
