"""Every public module has exactly one tier in docs/stability.md, and the documentation imports none of the private ones."""

import importlib
import re
from pathlib import Path

import pytest

import sharpmin

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "stability.md").read_text()
ROWS = re.findall(r"^\| `(sharpmin[\w.]*)(\.\*)?` \| (\w+) \|", PAGE, flags=re.MULTILINE)
EXACT = {name: tier for name, star, tier in ROWS if not star}
BELOW = {name: tier for name, star, tier in ROWS if star}


def modules():
    """Dotted names of all modules without a part that begins with an underscore."""
    source = ROOT / "src"
    for path in source.rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            yield ".".join(parts)


def tier(name):
    """As the page has it: a row of its own, or one with a star for the package."""
    return EXACT.get(name) or next((found for package, found in BELOW.items() if f"{name}.".startswith(f"{package}.")), None)


def test_every_public_module_has_a_tier_and_every_row_is_a_module():
    public = set(modules())
    assert len(public) > 20
    assert {name: tier(name) for name in public if tier(name) not in ("stable", "provisional", "private")} == {}
    assert {name for name, *_ in ROWS} - public == set()
    assert len({(name, star) for name, star, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize("name", [name for name, tier in EXACT.items() if tier != "private" and name != "sharpmin.cli"])
def test_what_can_be_built_on_says_what_it_has(name):
    module = importlib.import_module(name)
    assert module.__all__
    for public in module.__all__:
        assert hasattr(module, public)


def test_the_documentation_shows_nothing_private():
    pages = [ROOT / "README.md", *(ROOT / "examples").glob("*.py")]
    pages += [page for page in (ROOT / "docs").rglob("*") if page.suffix in (".md", ".ipynb")]
    shown = {name for page in pages for name in re.findall(r"(?:from|import) (sharpmin(?:\.\w+)*)", page.read_text())}
    assert "sharpmin" in shown
    assert {name for name in shown if tier(name) not in ("stable", "provisional")} == set()


def test_the_exceptions_it_names_are_names_of_the_package():
    (row,) = re.findall(r"^\| `sharpmin` \| stable \| .*$", PAGE, flags=re.MULTILINE)
    exceptions = set(re.findall(r"`(\w+)`", row)) - {"sharpmin", "__all__"}
    assert exceptions
    assert exceptions <= set(sharpmin.__all__)
