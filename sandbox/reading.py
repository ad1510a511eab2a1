"""Reading what clients send."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sandbox.errors import OpenEOError

if TYPE_CHECKING:
    from starlette.requests import Request


async def json_body(request: Request) -> dict[str, Any]:
    """The request's body as a JSON object.

    Raises:
        OpenEOError: when it is none.
    """
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise OpenEOError("BadRequest", "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise OpenEOError("BadRequest", "The body is not a JSON object.")
    return body


def graph_of(body: dict[str, Any]) -> dict[str, Any]:
    """The process graph of a job, a validation or a synchronous request.

    Raises:
        OpenEOError: ProcessGraphMissing.
    """
    process = body.get("process", body)
    graph = process.get("process_graph") if isinstance(process, dict) else None
    if not isinstance(graph, dict) or not graph:
        raise OpenEOError("ProcessGraphMissing", "No valid process graph specified.")
    return graph


def number(request: Request, name: str) -> int | None:
    """A query parameter as a number that is not negative, None if it is not there.

    Raises:
        OpenEOError: when it is something else.
    """
    text = request.query_params.get(name)
    if text is None or text == "":
        return None
    if not text.isdecimal():
        raise OpenEOError("BadRequest", f"The parameter {name!r} is not a number: {text!r}")
    return int(text)
