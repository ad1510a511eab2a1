"""The status map in a real browser, with no network to lean on."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from campaign.table import with_status
from campaign.tile import Tile, TileStatus
from producer.grids import utm_grid
from producer.status_map import write_status_map

pytestmark = pytest.mark.chromium

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = (
    "</script><script>window.hacked = 1</script><img src='http://127.0.0.1:9/x' onerror='window.hacked = 1'><b>bold"
)
AREAS = ".cartesianlayer .js-fill"
SUBPATHS = "paths => paths.map(path => (path.getAttribute('d') || '').split('M').length - 1)"
INSIDE = """([x, y]) => {
    const {xaxis, yaxis} = document.querySelector('.plotly-graph-div')._fullLayout;
    return [xaxis._offset + xaxis.d2p(x), yaxis._offset + yaxis.d2p(y)];
}"""


def missing(reason: str) -> None:
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if executable is None:
        missing("no Chromium: install it, or name it in CHROMIUM")
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415
    except ImportError:
        missing("no Playwright: pip install playwright")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield started
        started.close()


def table(columns: int, rows: int, size: int = 5000) -> Any:
    bounds = (500_000, 5_600_000, 500_000 + size * columns, 5_600_000 + size * rows)
    grid = utm_grid(bounds=bounds, crs="EPSG:32631", size=size)
    statuses = list(TileStatus)
    tiles = [
        Tile("c", name, statuses[i % len(statuses)], i, attempt=2, job_id=f"j-{i}", costs=4.5, error=HOSTILE)
        for i, name in enumerate(grid["tile_id"])
    ]
    return with_status(grid, tiles)


def open_page(browser: Any, path: Path, noticed: list[str]) -> Any:
    """The page once its map is drawn; what it logs and asks for is noted."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})

    def route(request: Any) -> None:
        if request.request.url.startswith("file:"):
            request.continue_()
        else:
            noticed.append(f"request: {request.request.url}")
            request.abort()

    page.route("**/*", route)
    page.on("console", lambda message: noticed.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: noticed.append(f"error: {error}"))
    page.goto(path.as_uri())
    page.wait_for_selector(AREAS)
    return page


def wait_until(page: Any, holds: Callable[[], bool]) -> None:
    """Playwright's own way evaluates text, which the page's policy forbids."""
    for _ in range(100):
        if holds():
            return
        page.wait_for_timeout(50)
    pytest.fail("waited in vain")


def test_the_map_is_drawn_and_nothing_leaves(browser: Any, tmp_path: Path) -> None:
    df = table(11, 4)
    write_status_map(df, tmp_path / "map.html", f"Antwerp {HOSTILE}")
    noticed: list[str] = []
    page = open_page(browser, tmp_path / "map.html", noticed)
    drawn = [count for count in page.locator(AREAS).evaluate_all(SUBPATHS) if count]
    assert drawn == [4] * 11
    legend = page.locator(".legendtext").all_text_contents()
    assert legend == [f"{status} (4)" for status in TileStatus]

    cell = df.iloc[17]
    x, y = page.evaluate(INSIDE, [cell.geometry.centroid.x, cell.geometry.centroid.y])
    page.mouse.move(x + 8, y + 8)  # near the middle, not on it
    hover = page.wait_for_selector(".hovertext").text_content()
    assert cell["tile_id"] in hover
    assert "job id: j-17" in hover
    assert "costs: 4.5" in hover
    assert "error: </script><script>" in hover
    assert HOSTILE in page.title()
    assert "<b>bold" in page.locator(".gtitle").text_content()

    page.locator(".legendtoggle").first.click()
    wait_until(page, lambda: len([n for n in page.locator(AREAS).evaluate_all(SUBPATHS) if n]) == 10)
    page.screenshot(path=tmp_path / "map.png")
    assert page.evaluate("window.hacked") is None
    assert noticed == []
    page.close()


def test_a_cell_is_as_wide_as_it_is_high(browser: Any, tmp_path: Path) -> None:
    df = table(4, 4)
    write_status_map(df, tmp_path / "map.html", "Antwerp")
    page = open_page(browser, tmp_path / "map.html", [])
    west, south, east, north = df.total_bounds
    (left, bottom), (right, top) = (page.evaluate(INSIDE, corner) for corner in ([west, south], [east, north]))
    assert (right - left) / (bottom - top) == pytest.approx(1, abs=0.02)
    page.close()


def test_ten_thousand_tiles(browser: Any, tmp_path: Path) -> None:
    write_status_map(table(100, 100, 2000), tmp_path / "map.html", "Many")
    assert (tmp_path / "map.html").stat().st_size < 15_000_000
    noticed: list[str] = []
    page = open_page(browser, tmp_path / "map.html", noticed)
    assert sum(page.locator(AREAS).evaluate_all(SUBPATHS)) == 10_000
    assert noticed == []
    page.close()


def test_the_page_can_ask_for_nothing_even_if_it_wanted_to(browser: Any, tmp_path: Path) -> None:
    write_status_map(table(2, 2), tmp_path / "map.html", "Antwerp")
    noticed: list[str] = []
    page = open_page(browser, tmp_path / "map.html", noticed)
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'answered', error => error.name)") == "TypeError"
    assert any("Content Security Policy" in line for line in noticed)
    assert not any(line.startswith("request:") for line in noticed)
    page.close()
