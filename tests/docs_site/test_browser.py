"""The site as a reader meets it: headless Chromium, wide and narrow, light and dark, from a server and from the disk."""

import contextlib
import functools
import http.server
import itertools
import re
import threading

import pytest
from playwright.sync_api import TimeoutError

PAGES = ["index", "training", "statements", "conformance", "canon", "claims", "tables", "api/sharpmin", "api/theory"]

LIKE = {"light": "> 200", "dark": "< 60"}
"""How much red is in the background."""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server(site):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


@pytest.fixture
def visit(tabs, server, site):
    return functools.partial(tabs, ours=(server, site.as_uri()))


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_window(visit, server, name):
    tab = visit(f"{server}/{name}.html")
    for width, scheme in itertools.product((1280, 390), ("light", "dark")):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(color_scheme=scheme)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        tab.wait_for_function(f"parseInt(getComputedStyle(document.body).backgroundColor.slice(4)) {LIKE[scheme]}")


@pytest.mark.parametrize("start", ["server", "disk"])
def test_the_search_finds(visit, server, site, start):
    tab = visit(f"{server}/index.html" if start == "server" else (site / "index.html").as_uri())
    tab.wait_for_function("() => [...document.querySelectorAll('*')].some((e) => e.shadowRoot)")  # it listens now
    box = tab.get_by_role("combobox", name="Search")
    for _ in range(20):  # it listens a moment later than it is there
        tab.keyboard.press("Control+k")
        with contextlib.suppress(TimeoutError):
            box.wait_for(timeout=2_000)
            break
    box.fill("perturbation")
    marks = tab.locator("mark", has_text=re.compile("^perturbation", re.IGNORECASE))
    marks.nth(4).wait_for(timeout=60_000)
    assert tab.get_by_role("combobox", name="Search").input_value() == "perturbation"
    with tab.expect_navigation():
        tab.keyboard.press("Enter")
    assert "perturbation" in tab.locator("article").inner_text().lower()


def test_a_formula_is_set_as_one(visit, server):
    tab = visit(f"{server}/statements.html#t1")
    boxes = tab.evaluate("""() => [...document.querySelectorAll("math[display=block] mfrac")].slice(0, 20).map((f) => {
      const [above, below] = [...f.children].map((child) => child.getBoundingClientRect());
      return [above.bottom, below.top];
    })""")
    assert len(boxes) == 20
    assert all(above <= below + 1 for above, below in boxes)
