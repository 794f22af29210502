"""Which tests belong to which part of the source, and which of them run a function, as a first run of all of them finds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .forks import FAILED, NO_TESTS, PASSED, TOO_LONG, Copy, Watching, run
from .operators import Mutant

TESTS: Mapping[str, tuple[str, ...]] = {
    "src/sharpmin/diagnostics": ("tests/diagnostics", "src/sharpmin/diagnostics"),
    "src/sharpmin/optim": ("tests/optim", "tests/contract/test_variants.py", "src/sharpmin/optim"),
    "src/sharpmin/theory": ("tests/theory", "tests/contract/test_theorems.py", "tests/contract/test_problems.py"),
}
"""Folder of the source -> files and folders of tests, doctests among them."""
FILE_LIMIT = 100.0
"""Seconds that a file of tests may take while its calls are recorded; tests that would come later are not used."""


def sources(root: Path, only: str | None = None) -> list[str]:
    """The files to be mutated, as paths from the root; `only` is one of them or a folder.

    Raises:
        ValueError: if there is none.
    """
    found = sorted(p.relative_to(root).as_posix() for folder in TESTS for p in (root / folder).rglob("*.py"))
    kept = [p for p in found if only is None or p == only or p.startswith(only.rstrip("/") + "/")]
    if not kept:
        raise ValueError(f"--only {only}: no file of {', '.join(TESTS)}")
    return kept


def folder_of(path: str) -> str:
    """The part of the source that a file belongs to."""
    return next(folder for folder in TESTS if path.startswith(folder + "/"))


def _test_files(root: Path, folder: str) -> Iterator[str]:
    for name in TESTS[folder]:
        place = root / name
        pattern = "test_*.py" if name.startswith("tests") else "*.py"
        for file in sorted(place.rglob(pattern)) if place.is_dir() else [place]:
            if name.startswith("tests") or ">>>" in file.read_text(encoding="utf-8"):
                yield file.relative_to(root).as_posix()


@dataclass(frozen=True)
class Tests:
    """What the recorded run showed: the seconds of each test, and which tests call a function."""

    seconds: Mapping[str, float]
    callers: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, object]]) -> Tests:
        """From rows with `test`, `seconds` and `calls`."""
        seconds: dict[str, float] = {}
        callers: dict[str, list[str]] = {}
        for row in rows:
            test, calls = str(row["test"]), row["calls"]
            seconds[test] = float(str(row["seconds"]))
            for call in calls if isinstance(calls, list) else ():
                callers.setdefault(call, []).append(test)
                callers.setdefault(call.split(":")[0] + ":", []).append(test)
        return cls(seconds, {key: list(dict.fromkeys(tests)) for key, tests in callers.items()})

    def for_mutant(self, path: str, mutant: Mutant, budget: float) -> tuple[list[str], int]:
        """The tests that run its function, or else its file, quickest first, within a budget; and how many there are."""
        asked = self.callers.get(f"{path}:{mutant.function}", ())
        ordered = sorted(asked, key=lambda test: (self.seconds[test], test))
        chosen: list[str] = []
        total = 0.0
        for test in ordered:
            total += self.seconds[test]
            if chosen and total > budget:
                break
            chosen.append(test)
        return chosen, len(ordered)


def watch(copy: Copy, folders: Sequence[str], out: Path, below: Sequence[str] | None = None) -> Tests:
    """Run the tests of these folders, or those of them `below` some paths, once on the source as it is.

    What is known of a file of tests that has not changed is kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    files = dict.fromkeys(file for folder in folders for file in _test_files(copy.root, folder))
    for file in files if below is None else [file for file in files if file.startswith(tuple(below))]:
        digest = hashlib.sha256((copy.root / file).read_bytes()).hexdigest()[:12]
        kept = out / f"{file.replace('/', '-')}-{digest}.jsonl"
        if not kept.exists():
            print(f"watching {file}", flush=True)
            new = out / "new.jsonl"
            new.write_text("")
            log = out / "log.txt"
            status = run(copy, [file], limit=FILE_LIMIT, plugin=Watching(f"{copy.root}/", new), log=log)
            if status not in (PASSED, FAILED, NO_TESTS, TOO_LONG):
                raise RuntimeError(f"mutants: pytest on {file} ended with {status}; see {log}")
            new.replace(kept)
        rows += [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    return Tests.of(rows)
