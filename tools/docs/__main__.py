"""`python -m tools.docs`: the documentation site in site/; a broken link or a warning is an error."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from .check import faults
from .reference import reference
from .stage import stage
from .statements import statements, tables

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Write the pages, render and check them."""
    argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__).parse_args()
    made = {**reference(), "statements.md": statements(), "tables.md": tables()}
    stage(ROOT, ROOT / "build" / "docs", made)
    site = ROOT / "site"
    shutil.rmtree(site, ignore_errors=True)
    run = subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT, check=False)
    if run.returncode:
        return run.returncode
    found = faults(site)
    print(*found, sep="\n", end="\n" * bool(found))
    print(f"{len(list(site.rglob('*.html')))} pages in {site.name}/, {len(found)} faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
