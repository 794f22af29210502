"""What a Python sees that has some distributions and no others: folders of links to the installed ones."""

import re
from importlib import metadata
from pathlib import Path


def closure(name: str, found: set[str]) -> None:
    """Add to `found` the distributions that `name` needs without extras, and `name` itself."""
    if name in found:
        return
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # needed on another platform only
        return
    found.add(name)
    for line in requirements:
        if "extra ==" not in line:
            closure(re.match(r"[\w.-]+", line)[0], found)


def link(folder: Path, names: list[str]) -> None:
    """Fill `folder` with links to `names` and all that they require."""
    found: set[str] = set()
    for name in names:
        closure(name, found)
    for name in found:
        for file in metadata.files(name) or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(file.locate())).parents[len(file.parts) - 1] / top)
