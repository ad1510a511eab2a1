"""The documents say what is so: generated parts, the README's campaign file, links, the compose file."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from campaign.settings import Settings
from campaign.spec import load_campaign
from campaign.tile import Step
from producer.run import children, flower_child

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


@pytest.fixture(scope="module")
def render_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_docs", ROOT / "tools" / "render_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_up_to_date(render_docs: ModuleType) -> None:
    stale = []
    for name in render_docs.DOCUMENTS:
        text = (ROOT / name).read_text("utf-8")
        if render_docs.rendered(text) != text:
            stale.append(name)
    assert not stale, "`make docs` writes them anew"


def test_every_part_is_used_and_its_end_is_there(render_docs: ModuleType) -> None:
    text = "".join((ROOT / name).read_text("utf-8") for name in render_docs.DOCUMENTS)
    for part in render_docs.PARTS:
        assert text.count(f"<!-- {part} -->") == text.count(f"<!-- /{part} -->") > 0, part


def test_the_readme_s_campaign_file_loads(tmp_path: Path) -> None:
    code, settings = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    path = tmp_path / "ndvi.py"
    path.write_text(code, "utf-8")
    file = load_campaign(path)
    assert file.campaign.name == "summer-ndvi"
    assert len(file.campaign.table()) == 4
    words: dict[str, Any] = {}
    exec(settings, words)
    assert words["campaign"].escalate[1] == {"executor-memory": "8G"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", document.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not missing


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\(([^)]+)\)", (folder / "README.md").read_text("utf-8"))
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    found: dict[str, Any] = compose["services"]
    return found


def compared(arguments: list[str]) -> list[str]:
    """A command line without what has to differ between a laptop and a container."""
    prefixes = ["--schedule=", "--address=", "--port="]
    if f"--queues={Step.POSTPROCESS}" in arguments:
        prefixes.append("--concurrency=")
    return [argument for argument in arguments if not argument.startswith(tuple(prefixes))]


def test_compose_starts_what_run_starts(services: dict[str, Any], tmp_path: Path) -> None:
    settings = Settings(workdir=tmp_path)
    started = [*children(settings, "redis://redis"), flower_child(settings, "redis://redis", 5555)]
    for child in started:
        command = shlex.split(services[child.name]["command"])
        assert compared(command) == compared(["python", *child.command[1:]]), child.name
    assert {child.name for child in started} | {"redis", "producer"} == set(services)


def test_compose_shows_flower_to_this_machine_only(services: dict[str, Any]) -> None:
    assert services["flower"]["ports"] == ["127.0.0.1:5555:5555"]
    assert [name for name, service in services.items() if "ports" in service] == ["flower"]


def test_compose_keeps_secrets_out_of_the_file(services: dict[str, Any]) -> None:
    assert "${REDIS_PASSWORD:?" in services["submit"]["environment"]["FLEET_REDIS_URL"]
    assert services["flower"]["environment"]["FLOWER_BASIC_AUTH"].startswith("${FLOWER_BASIC_AUTH:?")
    assert "--maxmemory-policy noeviction" in services["redis"]["command"][2]
    assert "--appendonly yes" in services["redis"]["command"][2]
