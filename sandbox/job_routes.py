"""Routes of batch jobs: create, list, describe, change, start, cancel, delete, logs, estimate."""

from __future__ import annotations

import base64
import binascii
import time
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.errors import OpenEOError
from sandbox.faults import lose_answer
from sandbox.reading import graph_of, json_body, number
from sandbox.runner import charge
from sandbox.store import LEVELS

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.backend import Backend
    from sandbox.store import Job

_MAX_LOGS = 1_000
_LOCKED = {"queued", "running"}
#: Progress is told from the time that has passed, as if jobs took at least this long, s.
_TYPICAL_SECONDS = 5.0


def job_routes(backend: Backend) -> list[Route]:
    """Everything below `/jobs` but the results."""
    routes = _Jobs(backend)
    return [
        Route("/jobs", routes.listing, methods=["GET"]),
        Route("/jobs", routes.create, methods=["POST"]),
        Route("/jobs/{job_id}", routes.describe, methods=["GET"]),
        Route("/jobs/{job_id}", routes.change, methods=["PATCH"]),
        Route("/jobs/{job_id}", routes.delete, methods=["DELETE"]),
        Route("/jobs/{job_id}/results", routes.start, methods=["POST"]),
        Route("/jobs/{job_id}/results", routes.cancel, methods=["DELETE"]),
        Route("/jobs/{job_id}/logs", routes.logs, methods=["GET"]),
        Route("/jobs/{job_id}/estimate", routes.estimate, methods=["GET"]),
    ]


class _Jobs:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._store = backend.store

    def _job(self, request: Request) -> Job:
        return self._store.get(self._backend.user(request), request.path_params["job_id"])

    async def listing(self, request: Request) -> Response:
        user = self._backend.user(request)
        limit = None if self._backend.behaviour.ignore_limit else number(request, "limit")
        beyond = _read_cursor(request.query_params.get("cursor"))
        oldest_first = self._backend.behaviour.oldest_first
        jobs = self._store.page(user, beyond, None if limit is None else limit + 1, oldest_first=oldest_first)
        links = [{"rel": "self", "href": f"{self._backend.root(request)}/jobs", "type": "application/json"}]
        if limit is not None and len(jobs) > limit > 0:
            jobs = jobs[:limit]
            following = f"{self._backend.root(request)}/jobs?limit={limit}&cursor={_write_cursor(jobs[-1].seq)}"
            links.append({"rel": "next", "href": following, "type": "application/json"})
        return JSONResponse({"jobs": [_summary(job) for job in jobs], "links": links})

    async def create(self, request: Request) -> Response:
        user = self._backend.user(request)
        body = await json_body(request)
        graph_of(body)
        most = self._backend.behaviour.created_jobs_limit
        if most and self._store.count(user, "created") >= most:
            raise OpenEOError("JobLimit", f"There are {most} jobs that have not been started; start or delete some.")
        job = self._store.create(user, body)
        self._backend.stats.submission()
        rule = self._store.fates.of(job)
        if rule.late_seconds > 0:
            self._store.hide(job.id, rule.late_seconds)
        if rule.lost_answer:
            lose_answer(request, "lost_answers")
        url = f"{self._backend.root(request)}/jobs/{job.id}"
        return Response(status_code=201, headers={"Location": url, "OpenEO-Identifier": job.id})

    async def describe(self, request: Request) -> Response:
        job = self._job(request)
        charged = {key: (job.outcome or {})[key] for key in ("costs", "usage") if key in (job.outcome or {})}
        extra = {
            key: value
            for key, value in job.submission.items()
            if key not in {"title", "description", "process", "plan", "budget"}
        }
        return JSONResponse(
            {
                **extra,
                **_summary(job),
                "process": job.submission["process"],
                "plan": job.submission.get("plan") or "free",
                "budget": job.submission.get("budget"),
                "progress": self._progress(job),
                **charged,
            }
        )

    async def change(self, request: Request) -> Response:
        if not self._backend.behaviour.patch:
            raise OpenEOError("FeatureUnsupported", "Feature not supported.")
        job = self._job(request)
        body = await json_body(request)
        if job.status in _LOCKED:
            raise OpenEOError("JobLocked", "Job is locked due to a queued or running batch computation.")
        if "process" in body:
            graph_of(body)
        self._store.update(job.id, {**job.submission, **body})
        return Response(status_code=204)

    async def delete(self, request: Request) -> Response:
        self._backend.runner.delete(self._job(request))
        return Response(status_code=204)

    async def start(self, request: Request) -> Response:
        job = self._job(request)
        if job.status not in {*_LOCKED, "finished"}:
            self._check_limits(job.user)
            self._backend.runner.queue(job)
            if self._store.fates.of(job).lost_start:
                lose_answer(request, "lost_starts")
        return Response(status_code=202)

    def _check_limits(self, user: str) -> None:
        behaviour = self._backend.behaviour
        if behaviour.max_active_jobs and self._store.count(user, *_LOCKED) >= behaviour.max_active_jobs:
            raise OpenEOError(
                "ConcurrentJobLimit",
                f"Job was not started because concurrent job limit ({behaviour.max_active_jobs}) is reached.",
            )
        if 0 <= behaviour.credits <= self._store.spent(user):
            raise OpenEOError("PaymentRequired", "The user has insufficient credits to run this batch job.")

    async def cancel(self, request: Request) -> Response:
        self._backend.runner.cancel(self._job(request))
        return Response(status_code=204)

    async def logs(self, request: Request) -> Response:
        job_id = request.path_params["job_id"]
        try:
            self._job(request)
        except OpenEOError as error:
            if error.code != "JobNotFound" or not self._backend.behaviour.unknown_job_logs:
                raise
            entry = {"id": "error", "level": "error", "message": f"Log collection failed: {error.message}"}
            return JSONResponse({"level": "error", "logs": [entry], "links": []})
        level = request.query_params.get("level", "debug")
        if level not in LEVELS:
            raise OpenEOError("BadRequest", f"There is no level {level!r}.")
        limit = min(number(request, "limit") or _MAX_LOGS, _MAX_LOGS)
        levels = LEVELS[: LEVELS.index(level) + 1]
        entries = self._store.logs(job_id, number(request, "offset") or 0, levels, limit + 1)
        links = []
        if len(entries) > limit:
            entries = entries[:limit]
            following = f"offset={entries[-1]['id']}&limit={limit}&level={level}"
            links.append({"rel": "next", "href": f"{self._backend.root(request)}/jobs/{job_id}/logs?{following}"})
        return JSONResponse({"level": level, "logs": entries, "links": links})

    async def estimate(self, request: Request) -> Response:
        if not self._backend.behaviour.estimates:
            raise OpenEOError("FeatureUnsupported", "Feature not supported.")
        job = self._job(request)
        from sandbox.estimate import estimate_values  # noqa: PLC0415 - pulls in pyproj; only back-ends that estimate need it

        values = estimate_values(job.process_graph)
        return JSONResponse({"costs": charge(values)["costs"], "size": values * 2})

    def _progress(self, job: Job) -> int:
        if job.status != "running" or job.started_at is None:
            return 100 if job.status == "finished" else 0
        share = (time.time() - job.started_at) / max(self._backend.runner.job_seconds(job), _TYPICAL_SECONDS)
        return min(95, int(share * 100))


def _summary(job: Job) -> dict[str, Any]:
    summary = {"id": job.id, "status": job.status, "created": job.created, "updated": job.updated}
    named = {key: job.submission[key] for key in ("title", "description") if job.submission.get(key)}
    return {**summary, **named}


def _write_cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(f"jobs-beyond-{seq}".encode()).decode()


def _read_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        return int(base64.urlsafe_b64decode(cursor).decode().removeprefix("jobs-beyond-"))
    except (ValueError, binascii.Error) as error:
        raise OpenEOError("BadRequest", "The cursor is not one of ours.") from error
