"""Routes that tell what the back-end is and has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import documents
from sandbox.bands import COLLECTION
from sandbox.errors import OpenEOError
from sandbox.reading import graph_of, json_body
from sandbox.runner import charge
from sandbox.specs import process_spec
from sandbox.validation import problems

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.backend import Backend


def discovery_routes(backend: Backend) -> list[Route]:
    """Capabilities, collections, processes, formats, validation and synchronous execution."""
    routes = _Discovery(backend)
    return [
        Route("/", routes.capabilities),
        Route("/.well-known/openeo", routes.well_known),
        Route("/conformance", routes.conformance),
        Route("/collections", routes.collections),
        Route("/collections/{collection_id}", routes.collection),
        Route("/processes", routes.processes),
        Route("/file_formats", routes.file_formats),
        Route("/udf_runtimes", routes.udf_runtimes),
        Route("/validation", routes.validate, methods=["POST"]),
        Route("/result", routes.result, methods=["POST"]),
    ]


class _Discovery:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def capabilities(self, request: Request) -> Response:
        return JSONResponse(documents.capabilities(self._backend.root(request), self._backend.behaviour))

    async def well_known(self, request: Request) -> Response:
        return JSONResponse(documents.well_known(self._backend.root(request)))

    async def conformance(self, _request: Request) -> Response:
        return JSONResponse({"conformsTo": documents.CONFORMANCE})

    async def collections(self, request: Request) -> Response:
        root = self._backend.root(request)
        listed = [documents.collection_summary(root, generated=self._backend.options.scenes is None)]
        return JSONResponse({"collections": listed, "links": [{"rel": "self", "href": f"{root}/collections"}]})

    async def collection(self, request: Request) -> Response:
        wanted = request.path_params["collection_id"]
        if wanted != COLLECTION:
            raise OpenEOError("CollectionNotFound", f"Collection {wanted!r} does not exist.")
        return JSONResponse(
            documents.collection(self._backend.root(request), generated=self._backend.options.scenes is None)
        )

    async def processes(self, _request: Request) -> Response:
        specs = [process_spec(name) for name in await self._backend.processes()]
        return JSONResponse({"processes": [spec for spec in specs if spec], "links": []})

    async def file_formats(self, _request: Request) -> Response:
        return JSONResponse(documents.file_formats())

    async def udf_runtimes(self, _request: Request) -> Response:
        return JSONResponse(documents.udf_runtimes())

    async def validate(self, request: Request) -> Response:
        body: dict[str, Any] = await json_body(request)
        return JSONResponse({"errors": problems(body.get("process_graph"), await self._backend.processes())})

    async def result(self, request: Request) -> Response:
        self._backend.user(request)
        graph = graph_of(await json_body(request))
        if errors := problems(graph, await self._backend.processes()):
            raise OpenEOError(errors[0]["code"], errors[0]["message"])
        async with self._backend.synchronous(graph) as (folder, answer):
            if len(answer["files"]) != 1:
                raise OpenEOError("ProcessGraphComplexity", "More than one file: run this as a batch job.")
            file = answer["files"][0]
            costs = str(charge(answer["values"])["costs"])
            return Response(
                (folder / file["name"]).read_bytes(), media_type=file["media_type"], headers={"OpenEO-Costs": costs}
            )
