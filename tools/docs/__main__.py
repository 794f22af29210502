"""`python -m tools.docs`: the documentation site in site/; a broken link or a warning is an error."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .build import build


def main() -> int:
    """Build, print what is wrong, and count."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("--out", type=Path, default=None, help="a folder for build/docs and site; the repository if left out")
    site, found = build(parser.parse_args().out)
    print(*found, sep="\n", end="\n" * bool(found))
    print(f"{len(list(site.rglob('*.html')))} pages in {site}, {len(found)} faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
