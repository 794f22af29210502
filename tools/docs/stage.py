"""The pages as zensical takes them: those of docs/, with links to files of the repository led to pages that show the files."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath

from . import notebook

MOVED = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
_APART = re.compile(r"(^ *```.*?^ *```$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(\]\()((?!https?:|mailto:|#)[^)#\s]+)(#[^)\s]*)?(\))")
_LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "bash", ".md": "markdown", ".cff": "yaml", ".json": "json"}


def sources(root: Path) -> dict[str, str]:
    """Path of a page in the repository to its place in the site."""
    docs = sorted((root / "docs").rglob("*.md"))
    books = sorted((root / "docs" / "notebooks").glob("*.ipynb"))
    pages = {path.relative_to(root).as_posix(): path.relative_to(root / "docs").as_posix() for path in docs}
    pages |= {path.relative_to(root).as_posix(): f"notebooks/{path.stem}.md" for path in books}
    return MOVED | pages


def stage(root: Path, out: Path, made: dict[str, str]) -> None:
    """Write all pages and pictures into `out`, which is emptied first.

    Args:
        root: of the repository.
        out: a folder that holds nothing else.
        made: pages that have no source in docs/, by their place.

    Raises:
        ValueError: for a link to a file that does not exist.
    """
    shutil.rmtree(out, ignore_errors=True)
    places = sources(root)
    shown: set[str] = set()
    for source, place in places.items():
        text = (root / source).read_text(encoding="utf-8")
        text = notebook.page(text) if source.endswith(".ipynb") else text
        _write(out / place, _linked(text, source, place, places, root, shown))
    for place, text in made.items():
        _write(out / place, text)
    while shown - places.keys():
        source = min(shown - places.keys())
        places[source] = f"files/{source}.md"
        _write(out / places[source], _file(root, source, shown))
    for picture in (root / "docs").rglob("*.png"):
        _copy(picture, out / picture.relative_to(root / "docs"))
    for style in (Path(__file__).parent / "assets").iterdir():
        _copy(style, out / "assets" / style.name)


def _linked(text: str, source: str, place: str, places: dict[str, str], root: Path, shown: set[str]) -> str:
    def led(match: re.Match[str]) -> str:
        target = os.path.normpath(PurePosixPath(source).parent / match[2])
        if not (root / target).exists():
            raise ValueError(f"{source}: the link {match[2]} leads nowhere; correct it, or create {target}")
        if target.endswith(".png"):
            there = target.removeprefix("docs/")
        elif target in places:
            there = places[target]
        else:
            shown.add(target)
            there = f"files/{target}.md"
        return f"{match[1]}{os.path.relpath(there, PurePosixPath(place).parent)}{match[3] or ''}{match[4]}"

    return "".join(part if i % 2 else _LINK.sub(led, part) for i, part in enumerate(_APART.split(text)))


def _file(root: Path, source: str, shown: set[str]) -> str:
    """A page that shows a file of the repository, or lists a folder; the search leaves it out."""
    path = root / source
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {source}\n\n"
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix in _LANGUAGES)
        shown.update(f"{source}/{name}" for name in inside)
        return head + "".join(f"- [{name}]({path.name}/{name}.md)\n" for name in inside)
    text = path.read_text(encoding="utf-8")
    return f"{head}````{_LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n````\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
