"""The report as a reader meets it: headless Chromium, wide and narrow, light and dark, offline."""

import os
import shutil

import pytest

from sharpmin.report import page
from sharpmin.theory import CLAIMS

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

OVERFLOWING = """() => [...document.querySelectorAll("body *")]
  .filter((e) => !e.closest("pre, svg, .plot, .hidden, thead"))
  .filter((e) => { const r = e.getBoundingClientRect(); return r.width > 0 && (r.right > innerWidth + 1 || r.left < -1); })
  .map((e) => e.tagName + " " + e.className + " " + e.textContent.slice(0, 40))"""

PLOTS = """() => [...document.querySelectorAll(".plot")].map((div) => {
  const box = div.querySelector("svg.main-svg")?.getBoundingClientRect();
  const drawn = div.querySelectorAll("path.js-line, path.point, .contourlayer path").length;
  return [box?.width ?? 0, box?.height ?? 0, drawn];
})"""

CLIPPED = """() => [...document.querySelectorAll(".plot")].flatMap((div) => {
  const frame = div.getBoundingClientRect();
  return [...div.querySelectorAll("svg text")].filter((t) => t.textContent).filter((t) => {
    const r = t.getBoundingClientRect();
    return r.left < frame.left - 2 || r.right > frame.right + 2 || r.bottom > frame.bottom + 2;
  }).map((t) => t.textContent);
})"""


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except sync_api.Error as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no browser: {str(error).splitlines()[0]}; install chromium, or run `playwright install chromium`")
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory, verdicts, plates, cells):
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page(verdicts, CLAIMS, "a note", figures=list(plates.values()), settings=cells), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def visit(browser):
    """Open an address; at the end no console error and no failed or foreign request may have been seen."""
    contexts, trouble = [], []

    def opened(address, scheme="light", size=(1280, 900)):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: trouble.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("requestfailed", lambda request: trouble.append(request.url))
        tab.on("request", lambda request: trouble.append(request.url) if request.url.startswith(("http", "ws")) else None)
        tab.goto(address)
        tab.wait_for_function("scheme => document.documentElement.dataset.drawn === scheme", arg=scheme)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["wide", "narrow"])
def test_everything_is_drawn_and_nothing_overflows(visit, report, size, scheme):
    tab = visit(report, scheme, size)
    plots = tab.evaluate(PLOTS)
    assert len(plots) == 16
    for width, height, drawn in plots:
        assert 200 < width < size[0]
        assert 200 < height < 600
        assert drawn >= 2
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate(OVERFLOWING) == []
    assert tab.evaluate(CLIPPED) == []


def test_figures_follow_the_colour_scheme(visit, report):
    tab = visit(report)
    ink = "() => getComputedStyle(document.querySelector('#simulations path.js-line')).stroke"
    light = tab.evaluate(ink)
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function("() => document.documentElement.dataset.drawn === 'dark'")
    assert (light, tab.evaluate(ink)) == ("rgb(196, 78, 0)", "rgb(255, 159, 90)")


def test_the_legend_hides_a_series_in_all_panels(visit, report):
    tab = visit(report)
    lines = "() => document.querySelectorAll('#simulations path.js-line').length"
    before = tab.evaluate(lines)
    key = tab.locator("#simulations .legend button").first
    key.click()
    tab.wait_for_function(f"{lines} === {before - 4}")
    assert key.get_attribute("aria-pressed") == "false"
    key.click()
    tab.wait_for_function(f"{lines} === {before}")


def test_a_link_opens_the_statement(visit, report):
    tab = visit(report + "#statement-t6")
    assert tab.locator("#statement-t6 .statement").is_visible()
    assert not tab.locator("#statement-t1 .statement").is_visible()
    tab.evaluate("location.hash = '#statement-t1'")
    tab.locator("#statement-t1 .statement").wait_for()


def test_the_page_of_a_partial_run_needs_no_script(browser, tmp_path, verdicts):
    (tmp_path / "report.html").write_text(page(verdicts[:2], CLAIMS, "Interrupted"), encoding="utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    tab = context.new_page()
    tab.goto((tmp_path / "report.html").as_uri())
    assert tab.locator("summary").count() == 2
    tab.locator("summary").first.click()
    assert tab.locator(".statement").first.is_visible()
    context.close()
