"""Pages, then the renderer, then the check of what it made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from .check import faults
from .reference import reference
from .stage import stage
from .statements import statements, tables

ROOT = Path(__file__).resolve().parents[2]


def build(out: Path | None = None) -> tuple[Path, list[str]]:
    """The folder of the site, and its faults, one line each.

    Args:
        out: a folder for `build/docs` and `site`; the repository if None. `src` and `tools` in it become links.

    Raises:
        ValueError: for a link in docs/ to a file that does not exist.
        SystemExit: if the renderer warns or fails; it has said why.
    """
    out = out or ROOT
    if out != ROOT:
        shutil.copy(ROOT / "zensical.toml", out)  # not as a link: zensical would follow it
        for name in ("src", "tools"):
            (out / name).symlink_to(ROOT / name)
    stage(ROOT, out / "build" / "docs", {**reference(), "statements.md": statements(), "tables.md": tables()})
    site = out / "site"
    shutil.rmtree(site, ignore_errors=True)
    run = subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=out, check=False)
    if run.returncode:
        sys.exit(run.returncode)
    return site, faults(site)
