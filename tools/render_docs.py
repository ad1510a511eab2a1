"""Writes the generated parts of the documents anew: what stands between `<!-- NAME -->` and `<!-- /NAME -->`.

`render_docs.py` writes; `tests/unit/test_docs.py` fails while there is something to write.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import BaseModel

from campaign.backends import Backend
from campaign.settings import Settings
from campaign.spec import Campaign, Publish
from campaign.tile import NEXT_STEP, RETRY_FROM, TRANSITIONS, Step, TileStatus
from producer.cli import main as cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "docs/architecture.md")


def tile_life() -> str:
    """A tile's life as Mermaid: one box a step, with the statuses that it moves on."""
    lines = ["```mermaid", "flowchart LR"]
    for step in Step:
        lines.append(f"  subgraph {step}")
        lines += [f"    {status}" for status in TileStatus if NEXT_STEP.get(status) is step]
        lines.append("  end")
    order = list(TileStatus)
    for source, targets in TRANSITIONS.items():
        forward = [target for target in targets if order.index(source) < order.index(target) <= _done(order)]
        lines += [f"  {source} --> {target}" for target in sorted(forward, key=order.index)[:1]]
    lines += [f"  {step} -.-> failed" for step in Step if _leads(step, TileStatus.FAILED)]
    lines += [f"  {step} -.-> skipped" for step in Step if _leads(step, TileStatus.SKIPPED)]
    retried = "; ".join(f"after `{step}` to `{status}`" for step, status in RETRY_FROM.items())
    text = f"`retry` sends a failed tile back: {retried}. `cancel` ends whatever is before `published`."
    return "\n".join([*lines, "```", "", text])


def _done(order: list[TileStatus]) -> int:
    return order.index(TileStatus.PUBLISHED)


def _leads(step: Step, target: TileStatus) -> bool:
    return any(target in TRANSITIONS[status] for status, mover in NEXT_STEP.items() if mover is step)


def transitions() -> str:
    """Every status with what it means, who moves it on and where it may go."""
    meanings = attribute_docs(TileStatus)
    rows = [
        (
            f"`{status}`",
            meanings[status.name],
            f"`{NEXT_STEP[status]}`" if status in NEXT_STEP else "-",
            ", ".join(f"`{target}`" for target in TileStatus if target in TRANSITIONS[status]) or "-",
        )
        for status in TileStatus
    ]
    return markdown_table(("status", "meaning", "moved on by", "may become"), rows)


def commands() -> str:
    """The commands with their first sentence, in the order of the program's file."""
    rows = []
    for name, command in cli.commands.items():
        with click.Context(command, info_name=name) as context:
            arguments = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
            if name == "sandbox":
                arguments = ["..."]
        help_text = (command.help or "").split("\n\n", 1)[0].replace("\n", " ")
        rows.append((f"`{' '.join(['openeo-fleet', name, *arguments])}`", help_text))
    return markdown_table(("command", ""), rows)


def settings() -> str:
    """The environment variables."""
    docs = attribute_docs(Settings)
    rows = [(f"`FLEET_{name.upper()}`", _default(field), docs[name]) for name, field in Settings.model_fields.items()]
    return markdown_table(("variable", "default", "meaning"), rows)


def fields(model: type[BaseModel]) -> Callable[[], str]:
    """The fields of a part of the campaign file."""

    def table() -> str:
        docs = attribute_docs(model)
        rows = [(f"`{name}`", _default(field), docs.get(name, "")) for name, field in model.model_fields.items()]
        return markdown_table((f"`{model.__name__}`", "default", "meaning"), rows)

    return table


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "all defaults"
    if field.default in (None, "", Path()):
        return "-"
    return f"`{field.default}`"


def attribute_docs(owner: type) -> dict[str, str]:
    """The text below each attribute of a class, as its source has it."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    found, name = {}, ""
    for statement in getattr(body, "body", []):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                pass
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                found[name] = " ".join(text.split())
                name = ""
    return found


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Rows of text as Markdown."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PARTS: dict[str, Callable[[], str]] = {
    "tile-life": tile_life,
    "transitions": transitions,
    "commands": commands,
    "settings": settings,
    "campaign": fields(Campaign),
    "backend": fields(Backend),
    "publish": fields(Publish),
}


def rendered(text: str) -> str:
    """`text` with every generated part as it has to be.

    Raises:
        KeyError: a part of that name is not known.
    """

    def part(found: re.Match[str]) -> str:
        return f"<!-- {found[1]} -->\n{PARTS[found[1]]()}\n<!-- /{found[1]} -->"

    return re.sub(r"<!-- ([a-z-]+) -->\n.*?<!-- /\1 -->", part, text, flags=re.DOTALL)


def main() -> None:
    """Write what has changed."""
    for name in DOCUMENTS:
        path = ROOT / name
        before = path.read_text("utf-8")
        after = rendered(before)
        if after != before:
            path.write_text(after, "utf-8")
            print(f"{name}: written anew")


if __name__ == "__main__":
    main()
