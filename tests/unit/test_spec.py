"""The campaign file: whatever can be wrong with it is told with the file and the line or the setting, and no secret."""

from __future__ import annotations

import hashlib
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from campaign.backends import Backend, read_backends
from campaign.errors import InvalidInput
from campaign.spec import Campaign, load_campaign, load_hooks
from campaign.tile import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD = """from campaign import Backend, Campaign

campaign = Campaign(name="ndvi", table="tiles.parquet", backends=[Backend(name="cdse", url="https://openeo.example/1.2")])

def start_job(row, connection, **kwargs):
    return connection.create_job({})
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = GOOD, name: str = "campaign.py") -> Path:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


def edit(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_a_good_file(write: Callable[..., Path]) -> None:
    path = write()
    file = load_campaign(path)
    assert (file.path, len(file.sha256)) == (path, 64)
    assert file.campaign.name == "ndvi"
    assert (file.campaign.max_attempts, file.campaign.output, file.campaign.publish.to) == (3, "results", "static")
    assert [(backend.name, backend.url) for backend in file.backends] == [("cdse", "https://openeo.example/1.2")]
    assert file.hooks.start_job.__name__ == "start_job"
    assert file.table_source == path.parent / "tiles.parquet"


def test_another_content_is_another_file(write: Callable[..., Path]) -> None:
    first = load_campaign(write())
    second = load_campaign(write(GOOD + "\nchanged = True\n"))
    assert first.sha256 != second.sha256
    assert load_campaign(write()).sha256 == first.sha256


def test_a_file_may_import_what_lies_beside_it(write: Callable[..., Path]) -> None:
    write("LICENSE = 'CC-BY-4.0'\n", "helper_of_test_spec.py")
    text = "import helper_of_test_spec\n" + edit(
        "backends=", "publish={'license': helper_of_test_spec.LICENSE}, backends="
    )
    assert load_campaign(write(text)).campaign.publish.license == "CC-BY-4.0"


def test_what_the_table_is_is_left_to_its_reader(write: Callable[..., Path]) -> None:
    assert load_campaign(write(edit('"tiles.parquet"', "[1, 2]"))).table_source == [1, 2]
    assert load_campaign(write(edit('"tiles.parquet"', '"/data/tiles.csv"'))).table_source.is_absolute()


def test_workers_read_the_functions_only(write: Callable[..., Path]) -> None:
    path = write(edit('backends=[Backend(name="cdse", url="https://openeo.example/1.2")]', 'backends="elsewhere"'))
    assert callable(load_hooks(path, path.read_text()).start_job)
    with pytest.raises(InvalidInput, match="elsewhere"):
        load_campaign(path)


def test_workers_run_the_text_they_are_given_whatever_the_file_says(write: Callable[..., Path]) -> None:
    source = edit("return connection.create_job({})", "raise KeyError('as enqueued')")
    path = write("this is not Python any more")
    start_job = load_hooks(path, source).start_job
    with pytest.raises(KeyError, match="as enqueued") as raised:
        start_job(None, None)
    lines = traceback.format_exception(raised.value)
    assert any(f'File "{path}", line 6' in line and "raise KeyError('as enqueued')" in line for line in lines)
    path.unlink()
    assert callable(load_hooks(path, source).start_job)


def test_the_text_that_was_read_is_kept(write: Callable[..., Path]) -> None:
    file = load_campaign(write())
    assert file.source == GOOD
    assert file.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()


def test_a_function_may_be_pickled_and_found_by_its_module(write: Callable[..., Path]) -> None:
    start_job = load_campaign(write()).hooks.start_job
    assert pickle.loads(pickle.dumps(start_job)) is start_job


@pytest.mark.parametrize("output", ["s3://bucket/x", "gs://bucket", "http://x/y", "file://host/x"])
def test_outputs_that_are_no_folders_are_refused(write: Callable[..., Path], output: str) -> None:
    with pytest.raises(InvalidInput, match=r"output: .*has to be a folder") as told:
        load_campaign(write(edit("table=", f"output={output!r}, table=")))
    assert output in str(told.value)


BACKEND = 'Backend(name="cdse", url="https://openeo.example/1.2")'
WRONG: dict[str, tuple[str, list[str]]] = {
    "syntax": (edit("def start_job(row", "def start_job((row"), ["campaign.py, line 5: "]),
    "exception": (GOOD + "\n\n1 / 0\n", ["campaign.py, line 9: ", "ZeroDivisionError: division by zero"]),
    "exception deeper down": (
        GOOD + "\nimport json\njson.loads('{')\n",
        ["campaign.py, line 9: ", "JSONDecodeError"],
    ),
    "import that is not there": (
        "import no_such_package\n" + GOOD,
        ["campaign.py, line 1: ", "No module named 'no_such_package'"],
    ),
    "no campaign": (edit("campaign = ", "other = "), ["has no campaign", "campaign = Campaign("]),
    "campaign is something else": (GOOD + "\ncampaign = 'ndvi'\n", ["has no campaign"]),
    "no start_job": (edit("def start_job", "def begin_job"), ["has no start_job", "def start_job("]),
    "start_job is no function": (GOOD + "\nstart_job = 'ndvi'\n", ["has no start_job"]),
    "empty": ("", ["has no campaign"]),
    "unknown field": (edit("table=", "tabel="), ["tabel: Extra inputs are not permitted", "table: Field required"]),
    "field of the wrong type": (edit("table=", 'max_attempts="many", table='), ["max_attempts: "]),
    "no attempts": (edit("table=", "max_attempts=0, table="), ["max_attempts: ", "greater than or equal to 1"]),
    "no back-ends": (edit(f"[{BACKEND}]", "[]"), ["backends: ", "at least 1"]),
    "unknown back-end": (edit(f"[{BACKEND}]", '["cdse"]'), ["unknown back-end 'cdse'", "backends.toml has none"]),
    "doubled back-ends": (edit(BACKEND, f"{BACKEND}, {BACKEND}"), ["cdse named more than once"]),
    "doubled, once by name": (edit(BACKEND, f'{BACKEND}, "cdse"'), ["cdse named more than once"]),
    "back-end without a url": (edit(', url="https://openeo.example/1.2"', ""), ["url: Field required"]),
    "url of another kind": (edit("https://", "ftp://"), ["url: ", "is not an http(s) address"]),
    "url without a host": (edit("https://openeo.example/1.2", "https:///1.2"), ["is not an http(s) address"]),
    "url that is none": (edit("https://openeo.example/1.2", "http://[::1"), ["url: "]),
    "empty url": (edit("https://openeo.example/1.2", ""), ["is not an http(s) address"]),
    "unknown login": (edit('", url=', '", auth="password", url='), ["auth: ", "'client_credentials'"]),
    "secret in the file": (edit('", url=', '", password="hunter2", url='), ["password: Extra inputs"]),
    "no slots": (edit('", url=', '", parallel_jobs=0, url='), ["parallel_jobs: "]),
    "no time": (edit('", url=', '", timeout=-1, url='), ["timeout: "]),
    "name of a back-end": (edit('"cdse"', '"../cdse"'), ["name: "]),
    "unknown publishing": (edit("table=", 'publish={"to": "ftp"}, table='), ["publish.to: "]),
    "publishing with a slip": (edit("table=", 'publish={"licence": "x"}, table='), ["publish.licence: Extra"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_on_one_line(write: Callable[..., Path], name: str) -> None:
    text, words = WRONG[name]
    path = write(text)
    with pytest.raises(InvalidInput) as told:
        load_campaign(path)
    message = str(told.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for word in words:
        assert word in message
    assert "hunter2" not in message


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-a", "ndvi\n", "é", "a" * 65, "a:b", "a*", "_a"])
def test_names_that_are_no_file_names_are_refused(write: Callable[..., Path], name: str) -> None:
    with pytest.raises(InvalidInput, match="name: "):
        load_campaign(write(edit('"ndvi"', repr(name))))


@pytest.mark.parametrize("name", ["n", "ndvi.2024-05_v1", "0", "a" * 64])
def test_names_that_are(write: Callable[..., Path], name: str) -> None:
    assert NAME_PATTERN.fullmatch(name)
    assert load_campaign(write(edit('"ndvi"', repr(name)))).campaign.name == name


@pytest.mark.parametrize("name", ["catalog", "collection", "Catalog", "COLLECTION"])
def test_names_that_the_catalog_has_for_itself_are_refused(write: Callable[..., Path], name: str) -> None:
    with pytest.raises(InvalidInput, match="name: "):
        load_campaign(write(edit('"ndvi"', repr(name))))


@pytest.mark.parametrize("url", ["https://ann:hunter2@openeo.example", "ann:hunter2@openeo.example", "http://ann@x"])
def test_credentials_in_a_url_are_refused_and_not_repeated(write: Callable[..., Path], url: str) -> None:
    with pytest.raises(InvalidInput, match="credentials do not belong into the address") as told:
        load_campaign(write(edit("https://openeo.example/1.2", url)))
    assert "hunter2" not in str(told.value)


def test_credentials_in_a_url_of_another_kind_are_not_repeated(write: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInput) as told:
        load_campaign(write(edit("https://openeo.example/1.2", "ftp://ann:hunter2@openeo.example")))
    assert "hunter2" not in str(told.value)


def test_a_url_without_a_scheme_is_https() -> None:
    assert Backend(name="b", url="openeo.example/1.2").url == "https://openeo.example/1.2"


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_a_file_that_cannot_be_read(tmp_path: Path, what: str) -> None:
    path = tmp_path / "campaign.py"
    if what == "folder":
        path.mkdir()
    with pytest.raises(InvalidInput, match=r"campaign\.py: cannot be read \(.+\); give the path of a campaign file"):
        load_campaign(path)


def test_a_file_that_is_not_python(write: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInput, match=r"campaign\.toml: is not a Python file"):
        load_campaign(write(GOOD, "campaign.toml"))


def test_a_file_that_ends_the_program(write: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInput, match="line 2: SystemExit"):
        load_campaign(write("import sys\nsys.exit(0)\n"))


def test_a_syntax_error_beside_the_file_is_told_of_where_it_is(write: Callable[..., Path]) -> None:
    write("fine = 1\nfine = 2\nfine = 3\ndef (:\n", "broken_of_test_spec.py")
    with pytest.raises(InvalidInput, match=r"broken_of_test_spec\.py"):
        load_campaign(write("import broken_of_test_spec\n" + GOOD))


# backends.toml

TOML = '[cdse]\nurl = "https://cdse.example"\nauth = "client_credentials"\nparallel_jobs = 5\n\n[vito]\nurl = "vito.example"\n'
BY_NAME = GOOD.replace(f"[{BACKEND}]", '["vito", "cdse"]')


def test_back_ends_by_name(write: Callable[..., Path]) -> None:
    write(TOML, "backends.toml")
    vito, cdse = load_campaign(write(BY_NAME)).backends
    assert (vito.name, vito.url, vito.parallel_jobs) == ("vito", "https://vito.example", 2)
    assert (cdse.name, cdse.auth, cdse.parallel_jobs) == ("cdse", "client_credentials", 5)
    (only,) = load_campaign(write(GOOD.replace(f"[{BACKEND}]", '"cdse"'))).backends
    assert only == cdse


def test_another_backends_toml(write: Callable[..., Path]) -> None:
    write("[nobody]\n", "backends.toml")
    elsewhere = write(TOML, "elsewhere.toml")
    assert len(load_campaign(write(BY_NAME), elsewhere).backends) == 2


def test_a_back_end_that_backends_toml_does_not_have(write: Callable[..., Path]) -> None:
    write(TOML, "backends.toml")
    with pytest.raises(InvalidInput, match=r"unknown back-end 'terra'; backends.toml has cdse, vito"):
        load_campaign(write(GOOD.replace(f"[{BACKEND}]", '["terra"]')))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[cdse\n", ["line 1"]),
        ('[cdse]\nauth = "basic"\n', ["[cdse]", "url: Field required"]),
        ('[cdse]\nurl = "https://x"\ntoken = "hunter2"\n', ["[cdse]", "token: Extra inputs"]),
        ('[cdse]\nurl = "https://a:hunter2@x"\n', ["[cdse]", "credentials do not belong"]),
        ('["c d"]\nurl = "https://x"\n', ["[c d]", "name: "]),
    ],
)
def test_a_backends_toml_that_is_wrong(write: Callable[..., Path], text: str, words: list[str]) -> None:
    path = write(text, "backends.toml")
    with pytest.raises(InvalidInput) as told:
        load_campaign(write(BY_NAME))
    assert str(told.value).startswith(str(path))
    assert all(word in str(told.value) for word in words)
    assert "hunter2" not in str(told.value)


def test_a_backends_toml_without_tables(write: Callable[..., Path]) -> None:
    write('url = "https://x"\n', "backends.toml")
    with pytest.raises(InvalidInput, match="url"):
        load_campaign(write(BY_NAME))


def test_a_backends_toml_that_is_asked_for_and_missing(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.toml: no such file; FLEET_BACKENDS names it"):
        load_campaign(write(), tmp_path / "none.toml")
    assert read_backends(tmp_path / "none.toml") == {}


# --backend NAME=URL


def test_an_url_of_the_command_line_wins(write: Callable[..., Path]) -> None:
    text = edit('", url=', '", auth="basic", parallel_jobs=7, url=')
    (backend,) = load_campaign(write(text), urls={"cdse": "http://127.0.0.1:1/openeo"}).backends
    assert (backend.url, backend.auth, backend.parallel_jobs) == ("http://127.0.0.1:1/openeo", "basic", 7)


def test_urls_of_before_stay_unless_the_command_line_has_others(write: Callable[..., Path]) -> None:
    before = {"cdse": "https://before.example", "gone": "https://gone.example"}
    file = load_campaign(write(), urls_before=before)
    assert ([backend.url for backend in file.backends], file.moved) == (["https://before.example"], frozenset())
    file = load_campaign(write(), urls={"cdse": "https://now.example"}, urls_before=before)
    assert ([backend.url for backend in file.backends], file.moved) == (["https://now.example"], {"cdse"})


def test_an_url_of_the_command_line_for_nobody(write: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInput, match=r"--backend vito=http://x: unknown back-end; campaign\.py has cdse"):
        load_campaign(write(), urls={"vito": "http://x"})


def test_an_url_of_the_command_line_that_is_none(write: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInput, match=r"--backend cdse: .*not an http\(s\) address"):
        load_campaign(write(), urls={"cdse": "ftp://x"})


# The store, and secrets


FULL: dict[str, Any] = {
    "url": "https://openeo.example",
    "auth": "client_credentials",
    "provider_id": "CDSE",
    "parallel_jobs": 9,
    "poll_interval": 2.5,
    "timeout": 33.5,
}


@pytest.mark.parametrize("fields", [{}, FULL])
def test_a_back_end_comes_back_from_the_store_as_it_was(fields: dict[str, Any]) -> None:
    backend = Backend(**{"name": "cdse", "url": "https://x"} | fields)
    kept = {name: str(value) for name, value in backend.model_dump().items() if value}
    assert Backend.from_store(kept | {"paused_until": "17.5", "quiet": "3", "track_at": "1"}) == backend


def test_secrets_come_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend(name="cdse-2.free", url="https://x", auth="basic")
    assert backend.variable("PASSWORD") == "FLEET_CDSE_2_FREE_PASSWORD"
    monkeypatch.delenv("FLEET_CDSE_2_FREE_PASSWORD", raising=False)
    assert backend.secret("PASSWORD") is None
    monkeypatch.setenv("FLEET_CDSE_2_FREE_PASSWORD", "")
    assert backend.secret("PASSWORD") is None
    monkeypatch.setenv("FLEET_CDSE_2_FREE_PASSWORD", "hunter2")
    assert backend.secret("PASSWORD") == "hunter2"
    assert "hunter2" not in repr(backend) + backend.model_dump_json()


def test_one_back_end_is_a_list_of_one() -> None:
    backend = Backend(name="b", url="https://x")
    assert Campaign(name="c", table="t.csv", backends=backend).backends == [backend]  # type: ignore[arg-type]
    assert Campaign(name="c", table="t.csv", backends="b").backends == ["b"]
