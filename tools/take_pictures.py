"""Takes docs/pictures anew: the terminal and the status map in the middle of a real run of the demo."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright
from rich.console import Console

from campaign.settings import Settings
from campaign.store import TileStore
from campaign.tile import TileStatus
from producer import progress, report
from producer.embedded_redis import running_url
from producer.status_map import write_status_map

if TYPE_CHECKING:
    from campaign.meta import CampaignMeta

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
CAMPAIGN = "antwerp-ndvi"
PUBLISHED = 5
STATUSES = 3
"""Tiles that are done when the pictures are taken, and different statuses, so that there is something to see."""
SECONDS = 120.0

FONT_FROM_THE_WEB = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
"""What rich puts into every picture; without it the reader's own fixed-width font is taken."""

CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def main() -> None:
    """Run the demo in a folder of its own and take both pictures on the way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(workdir=folder / "demo")
        program = Path(sys.executable).with_name("openeo-fleet")
        demo = subprocess.Popen([program, "demo", "--workdir", settings.workdir])
        try:
            store = wait_for_store(settings)
            meta = terminal(store, folder)
            page = folder / "map.html"
            write_status_map(report.table(store, meta), page, meta.name)
        finally:
            demo.terminate()
            demo.wait()
        photograph(page, folder / "status-map.png")
        for picture in ("progress.svg", "status-map.png"):
            shutil.copy(folder / picture, PICTURES / picture)
            print(PICTURES / picture)


def wait_for_store(settings: Settings) -> TileStore:
    """The store of the demo, once its campaign is there."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if url := running_url(settings.state_dir):
            store = TileStore.connect(url, settings.namespace)
            if store.campaign(CAMPAIGN):
                return store
        time.sleep(0.2)
    raise SystemExit("the demo does not start")


def terminal(store: TileStore, folder: Path) -> CampaignMeta:
    """The block that `run` shows, at a moment when tiles are in several statuses."""
    meta = store.campaign(CAMPAIGN)
    if meta is None:
        raise SystemExit("the demo's campaign is gone")
    throughput = progress.Throughput()
    deadline = time.monotonic() + SECONDS
    counts = store.counts(CAMPAIGN)
    while time.monotonic() < deadline:
        counts = store.counts(CAMPAIGN)
        throughput.add(time.monotonic(), progress.done(counts))
        if counts.get(TileStatus.PUBLISHED, 0) >= PUBLISHED and len(counts) >= STATUSES:
            break
        time.sleep(0.05)
    with (folder / "null").open("w") as nowhere:
        console = Console(record=True, width=78, file=nowhere, force_terminal=True)
        backends = [store.backend(name) for name in meta.backends]
        console.print(progress.render(meta, counts, throughput, backends))
    svg = console.export_svg(title=f"openeo-fleet run {CAMPAIGN}")
    (folder / "progress.svg").write_text(FONT_FROM_THE_WEB.sub("", svg), "utf-8")
    return meta


def photograph(page: Path, picture: Path) -> None:
    """`page` as a browser shows it."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        tab = browser.new_page(viewport={"width": 760, "height": 460})
        tab.goto(page.as_uri())
        tab.wait_for_selector(".cartesianlayer .js-fill", state="attached")
        tab.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main()
