"""The API as it is over HTTP: errors, paging, who sees what, downloads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.spawn import Sandbox

GRAPH = {
    "load1": {
        "process_id": "load_collection",
        "arguments": {
            "id": "SENTINEL2_L2A",
            "spatial_extent": {"west": 4.40, "south": 51.10, "east": 4.41, "north": 51.11},
            "temporal_extent": ["2024-05-01", "2024-05-20"],
            "bands": ["B04"],
        },
    },
    "save1": {
        "process_id": "save_result",
        "arguments": {"data": {"from_node": "load1"}, "format": "NetCDF"},
        "result": True,
    },
}


class Api:
    """Plain requests as one user."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self.session = requests.Session()
        token = self.session.get(f"{url}/credentials/basic", auth=(user, password), timeout=10).json()["access_token"]
        self.session.headers["Authorization"] = f"Bearer basic//{token}"

    def __call__(self, method: str, path: str, **arguments: Any) -> requests.Response:
        url = path if path.startswith("http") else self.url + path
        return self.session.request(method, url, timeout=10, **arguments)

    def create(self, title: str = "a job", graph: dict[str, Any] | None = None) -> str:
        answer = self("POST", "/jobs", json={"title": title, "process": {"process_graph": graph or GRAPH}})
        assert answer.status_code == 201
        assert answer.content == b""
        assert answer.headers["Location"].endswith(answer.headers["OpenEO-Identifier"])
        return answer.headers["OpenEO-Identifier"]

    def run(self, job: str) -> str:
        assert self("POST", f"/jobs/{job}/results").status_code == 202
        return self.wait(job)

    def wait(self, job: str, until: tuple[str, ...] = ("finished", "error", "canceled"), seconds: float = 30) -> str:
        deadline = time.monotonic() + seconds
        while (status := self("GET", f"/jobs/{job}").json()["status"]) not in until:
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        return status


@pytest.fixture(scope="module")
def api(sandbox: Sandbox) -> Iterator[Api]:
    api = Api(sandbox.url, "demo", "demo")
    with api.session:
        yield api


@pytest.fixture(scope="module")
def other(sandbox: Sandbox) -> Iterator[Api]:
    api = Api(sandbox.url, "other", "secret")
    with api.session:
        yield api


@pytest.fixture(scope="module")
def finished(api: Api) -> str:
    job = api.create()
    assert api.run(job) == "finished"
    return job


def assert_error(answer: requests.Response, status: int, code: str) -> None:
    assert answer.status_code == status
    body = answer.json()
    assert (body["code"], body["id"][:2]) == (code, "r-")
    assert body["message"]


def test_capabilities_list_only_what_is_there(api: Api) -> None:
    capabilities = api("GET", "/").json()
    assert capabilities["api_version"] == "1.2.0"
    for endpoint in capabilities["endpoints"]:
        path = endpoint["path"].replace("{collection_id}", "SENTINEL2_L2A").replace("{job_id}", "j-none")
        for method in endpoint["methods"]:
            assert api(method, path).status_code not in {405, 501}, (method, path)


def test_discovery_documents(api: Api, sandbox: Sandbox) -> None:
    root = sandbox.url.removesuffix("/openeo/1.2")
    assert api("GET", f"{root}/.well-known/openeo").json()["versions"][0]["url"] == sandbox.url
    assert "https://api.openeo.org/1.2.0" in api("GET", "/conformance").json()["conformsTo"]
    assert [collection["id"] for collection in api("GET", "/collections").json()["collections"]] == ["SENTINEL2_L2A"]
    assert api("GET", "/collections/SENTINEL2_L2A").json()["cube:dimensions"]["bands"]["values"][0] == "B02"
    assert {"netCDF", "GTiff"} <= set(api("GET", "/file_formats").json()["output"])
    listed = {process["id"] for process in api("GET", "/processes").json()["processes"]}
    assert {
        "load_collection",
        "ndvi",
        "reduce_dimension",
        "mask",
        "mask_polygon",
        "aggregate_spatial",
        "save_result",
    } <= listed


def test_errors_have_openeos_form(api: Api, other: Api, finished: str, sandbox: Sandbox) -> None:
    job = f"{sandbox.url}/jobs/{finished}"
    assert_error(requests.get(job, timeout=10), 401, "AuthenticationRequired")
    assert_error(requests.get(job, headers={"Authorization": "Bearer basic//no"}, timeout=10), 403, "TokenInvalid")
    assert_error(
        requests.get(job, headers={"Authorization": "Bearer no"}, timeout=10), 403, "AuthenticationSchemeInvalid"
    )
    assert_error(
        requests.get(f"{sandbox.url}/credentials/basic", auth=("demo", "no"), timeout=10), 403, "CredentialsInvalid"
    )
    assert_error(api("GET", "/jobs/j-none"), 404, "JobNotFound")
    assert_error(other("GET", f"/jobs/{finished}"), 404, "JobNotFound")
    assert_error(other("GET", f"/jobs/{finished}/results"), 404, "JobNotFound")
    assert_error(api("GET", "/nowhere"), 404, "NotFound")
    assert_error(api("GET", "/collections/NONE"), 404, "CollectionNotFound")
    assert_error(api("POST", "/jobs", json={"title": "no graph"}), 400, "ProcessGraphMissing")
    assert_error(api("POST", "/jobs", data="{"), 400, "BadRequest")
    assert_error(api("GET", f"/jobs/{api.create()}/results"), 400, "JobNotFinished")
    assert_error(api("GET", f"/jobs/{finished}/results/assets/other.nc"), 404, "FileNotFound")


def test_a_graph_is_not_validated_when_a_job_is_created(api: Api) -> None:
    graph = {"none1": {"process_id": "does_not_exist", "arguments": {}, "result": True}}
    assert api("POST", "/validation", json={"process_graph": graph}).json()["errors"][0]["code"] == "ProcessUnsupported"
    job = api.create("unknown process", graph)
    assert api.run(job) == "error"
    errors = api("GET", f"/jobs/{job}/logs?level=error").json()["logs"]
    assert [entry["code"] for entry in errors] == ["ProcessUnsupported"]
    assert_error(api("GET", f"/jobs/{job}/results"), 424, "JobFailed")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"temporal_extent": ["1999-01-01", "1999-02-01"]}, "NoDataAvailable"),
        ({"bands": ["B99"]}, "ProcessParameterInvalid"),
        ({"spatial_extent": {"west": 0, "south": 50, "east": 8, "north": 56}}, "OOM"),
    ],
)
def test_jobs_fail_with_a_reason_in_their_logs(api: Api, changes: dict[str, Any], code: str) -> None:
    load = {**GRAPH["load1"], "arguments": {**GRAPH["load1"]["arguments"], **changes}}
    job = api.create("failing", {**GRAPH, "load1": load})
    assert api.run(job) == "error"
    assert api("GET", f"/jobs/{job}/logs").json()["logs"][-1]["code"] == code


def test_jobs_are_listed_newest_first_in_pages(api: Api, other: Api) -> None:
    created = [api.create(f"page {number}") for number in range(5)]
    seen, url = [], "/jobs?limit=2"
    while url and len(seen) < 5:
        page = api("GET", url).json()
        assert len(page["jobs"]) <= 2
        seen += [job["id"] for job in page["jobs"]]
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
    assert seen[:5] == created[::-1]
    assert "process" not in page["jobs"][0]
    assert not {job["id"] for job in other("GET", "/jobs").json()["jobs"]} & set(created)


def test_ignored_limits(api: Api, sandbox: Sandbox) -> None:
    sandbox.behave(ignore_limit=True)
    page = api("GET", "/jobs?limit=1").json()
    assert len(page["jobs"]) > 1
    assert [link["rel"] for link in page["links"]] == ["self"]


def test_logs_page_by_offset(api: Api, finished: str) -> None:
    whole = api("GET", f"/jobs/{finished}/logs").json()["logs"]
    first = api("GET", f"/jobs/{finished}/logs?limit=1").json()
    following = next(link["href"] for link in first["links"] if link["rel"] == "next")
    assert first["logs"] + api("GET", following).json()["logs"][:1] == whole[:2]
    assert api("GET", f"/jobs/{finished}/logs?offset={whole[-1]['id']}").json()["logs"] == []


def test_assets_by_range_head_and_etag(api: Api, finished: str) -> None:
    assets = api("GET", f"/jobs/{finished}/results").json()["assets"]
    href = assets["openEO.nc"]["href"]
    head = api("HEAD", href)
    size = int(head.headers["Content-Length"])
    assert (head.headers["Accept-Ranges"], size) == ("bytes", assets["openEO.nc"]["file:size"])
    part = api("GET", href, headers={"Range": "bytes=10-19", "If-Range": head.headers["ETag"]})
    assert part.status_code == 206
    assert part.content == api("GET", href).content[10:20]
    assert_error(requests.get(href, timeout=10), 401, "AuthenticationRequired")


def test_signed_urls_expire(api: Api, sandbox: Sandbox, finished: str) -> None:
    sandbox.behave(signed_urls=True)
    href = api("GET", f"/jobs/{finished}/results").json()["assets"]["openEO.nc"]["href"]
    assert requests.get(href, timeout=10).status_code == 200
    assert_error(requests.get(href.replace("openEO.nc", "openEO.tif"), timeout=10), 403, "CredentialsInvalid")
    sandbox.behave(url_seconds=-1)
    href = api("GET", f"/jobs/{finished}/results").json()["assets"]["openEO.nc"]["href"]
    assert_error(api("GET", href), 410, "ResultLinkExpired")


def test_patch_start_cancel_delete(api: Api, sandbox: Sandbox) -> None:
    sandbox.behave(job_seconds=20)
    job = api.create()
    assert api("PATCH", f"/jobs/{job}", json={"title": "renamed"}).status_code == 204
    assert api("POST", f"/jobs/{job}/results").status_code == 202
    assert api("POST", f"/jobs/{job}/results").status_code == 202
    api.wait(job, ("running",))
    assert_error(api("PATCH", f"/jobs/{job}", json={"title": "no"}), 400, "JobLocked")
    assert api("DELETE", f"/jobs/{job}/results").status_code == 204
    described = api("GET", f"/jobs/{job}").json()
    assert (described["status"], described["title"]) == ("canceled", "renamed")
    deadline = time.monotonic() + 10
    while sandbox.stats()["slots"]["busy"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert api("DELETE", f"/jobs/{job}").status_code == 204
    assert_error(api("GET", f"/jobs/{job}"), 404, "JobNotFound")


@pytest.mark.parametrize(
    ("form", "items"),
    [("files", 1), ("none", 0), ("grouped", 1), ("feature", 0)],
)
def test_forms_of_results(api: Api, sandbox: Sandbox, finished: str, form: str, items: int) -> None:
    sandbox.behave(items=form, checksums=True)
    results = api("GET", f"/jobs/{finished}/results").json()
    assert results["stac_version"] == ("0.9.0" if form == "feature" else "1.0.0")
    assert results["assets"]["openEO.nc"]["file:checksum"].startswith("1220")
    links = [link["href"] for link in results["links"] if link["rel"] == "item"]
    assert len(links) == items
    for link in links:
        item = api("GET", link).json()
        assert item["assets"].keys() == {"openEO.nc"}
        assert item["id"] == "openEO.nc" if form == "files" else ":" in item["id"]


def test_estimates_come_with_a_switch(api: Api, sandbox: Sandbox) -> None:
    job = api.create()
    assert_error(api("GET", f"/jobs/{job}/estimate"), 501, "FeatureUnsupported")
    sandbox.behave(estimates=True)
    assert api("GET", f"/jobs/{job}/estimate").json()["costs"] > 0
