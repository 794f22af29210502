"""What the built site must be: every link and anchor leads somewhere, and nothing is fetched from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

_LOADS = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}
_MENTIONS = {"canonical", "alternate", "prev", "next"}
"""Relations of a `link` that load nothing."""


class Page(HTMLParser):
    """The ids, links and resources of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what the tag names."""
        given = {name: value or "" for name, value in attrs}
        self.ids.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        for name, value in given.items():
            if (tag, name) in _LOADS and not (tag == "link" and given.get("rel") in _MENTIONS):
                self.resources.append(value)


def faults(site: Path) -> list[str]:
    """What is wrong, one line each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found: list[str] = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links begin at the root of a server
        name = path.relative_to(site)
        for link in page.links:
            if (fault := _broken(link, path, pages)) is not None:
                found.append(f"{name}: {fault}")
        for resource in page.resources:
            if resource.startswith(("http:", "https:", "//")):
                found.append(f"{name}: {resource} would be fetched from elsewhere")
            elif not resource.startswith("data:") and not (path.parent / unquote(urldefrag(resource).url)).exists():
                found.append(f"{name}: the file {resource} is missing")
    return found


def _broken(link: str, path: Path, pages: dict[Path, Page]) -> str | None:
    if link.startswith(("http:", "https:", "mailto:", "javascript:")):
        return None
    address, fragment = urldefrag(link)
    target = path if not address else (path.parent / unquote(address)).resolve()
    target = target / "index.html" if target.is_dir() else target
    if not target.exists():
        return f"the link {link} leads nowhere"
    if fragment and target in pages and unquote(fragment) not in pages[target].ids:
        return f"the anchor of {link} does not exist"
    return None
