"""The report as a reader meets it: headless Chromium, wide and narrow, light and dark, offline."""

import pytest

from sharpmin.report import page
from sharpmin.theory import CLAIMS

from .conftest import NARROW, looks, nothing_overflows


@pytest.fixture(scope="module")
def report(tmp_path_factory, verdicts, plates, cells):
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page(verdicts, CLAIMS, "a note", figures=list(plates.values()), settings=cells), encoding="utf-8")
    return file.as_uri()


def test_everything_is_drawn_and_nothing_overflows(visit, report):
    tab, colors = visit(report, *NARROW[::-1]), {}
    for scheme in looks(tab, figures=18, marks=2):
        tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        nothing_overflows(tab)
        colors[scheme] = tab.evaluate("getComputedStyle(document.querySelector('#simulations path.js-line')).stroke")
    assert colors == {"dark": "rgb(255, 159, 90)", "light": "rgb(196, 78, 0)"}


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


def test_a_link_opens_the_statement(visit, tmp_path, verdicts, plates):
    (tmp_path / "report.html").write_text(page(verdicts, CLAIMS, figures=[plates["rates"]]), encoding="utf-8")
    tab = visit((tmp_path / "report.html").as_uri() + "#statement-t6")
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


def test_an_old_browser_says_why_there_are_no_figures(browser, report):
    context, trouble = browser.new_context(), []
    context.add_init_script("delete window.DecompressionStream")
    tab = context.new_page()
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.goto(report + "#statement-t6")
    tab.wait_for_selector("p.notice >> text=The figures need a browser of 2023 or newer; the tables do not.")
    tab.wait_for_function("() => document.querySelector('#statement-t6 details').open")
    assert tab.locator("svg.main-svg").count() == 0
    context.close()
    assert trouble == []
