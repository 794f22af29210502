"""The pictures of the README and of docs, cut from the pages that the commands write: `python -m tools.pictures`."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, sync_playwright

from sharpmin.cli import main

ROOT = Path(__file__).parents[1]
CHROMIUM = "/usr/bin/chromium"


@dataclass(frozen=True)
class Picture:
    """A part of a page.

    Attributes:
        name: the file in docs.
        command: the arguments of `sharpmin`; run in an empty folder.
        page: the file that it writes there.
        part: a CSS selector; empty for the top of the page.
        height: of the window, in CSS pixels.
        before: a page of docs whose first example is run before.
    """

    name: str
    command: str
    page: str
    part: str = ""
    height: int = 1000
    before: str = ""


PICTURES = (
    Picture("claims.png", "reproduce --quick --out .", "report.html", "#simulations"),
    Picture("kappa.png", "reproduce --quick --out .", "report.html", "#kappa"),
    Picture("diagnosis.png", "diagnose run.jsonl --html run.html", "run.html", height=620, before="plateau.md"),
    Picture("study.png", f"study digits --out {ROOT / 'out'}", str(ROOT / "out" / "study-digits.html"), "#frontier"),
)


def make(picture: Picture, browser: Browser) -> None:
    """Run the command and write the picture to docs."""
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        if picture.before:
            text = (ROOT / "docs" / picture.before).read_text()
            exec(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0], {})
        main(picture.command.split())
        page = browser.new_page(viewport={"width": 1280, "height": picture.height}, device_scale_factor=1.5)
        page.goto(Path(picture.page).absolute().as_uri())
        page.wait_for_timeout(3000)  # until plotly has drawn
        target = page.locator(picture.part).first if picture.part else page
        target.screenshot(path=str(ROOT / "docs" / picture.name))


if __name__ == "__main__":
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", CHROMIUM), args=["--no-sandbox"])
        for one in PICTURES:
            make(one, chromium)
