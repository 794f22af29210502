"""`python -m tools.mutants`: make mutants, run the tests that call what was changed, and tell which ones nothing noticed."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .forks import NO_TESTS, PASSED, TOO_LONG, Chosen, Copy, run, warm_up
from .operators import Mutant, mutants
from .table import TESTS, Tests, folder_of, sources, watch

ALIVE, KILLED, SLOW, UNSEEN = "alive", "killed", "too slow", "no test"
"""Results for a mutant; one that takes too long counts as killed, one that no test runs counts as alive."""


@dataclass(frozen=True)
class Case:
    """A mutant of a file; its key in the results does not change when lines above it do."""

    path: str
    mutant: Mutant
    source: str
    key: str


def cases(root: Path, paths: Sequence[str], line: int | None = None) -> list[Case]:
    """All mutants of these files, or those that begin in one line."""
    found = []
    for path in paths:
        source, seen = (root / path).read_text(encoding="utf-8"), Counter[str]()
        for mutant in mutants(source):
            before, after = mutant.shown(source)
            key = f"{path} {mutant.function} {mutant.column} {before} -> {after}"
            seen[key] += 1  # a line may be there twice
            found.append(Case(path, mutant, source, f"{key} {seen[key]}"))
    return [case for case in found if line is None or case.mutant.line == line]


def judge(copy: Copy, case: Case, tests: Tests, budget: float, log: Path) -> dict[str, Any]:
    """Run the tests on one mutant; returns its row of results."""
    chosen, of = tests.for_mutant(case.path, case.mutant, budget)
    before, after = case.mutant.shown(case.source)
    row = {"key": case.key, "path": case.path, "line": case.mutant.line, "operator": case.mutant.operator}
    row |= {"before": before, "after": after, "tests": len(chosen), "of": of}
    if not chosen:
        return row | {"result": UNSEEN}
    limit = 20 + 3 * sum(tests.seconds[test] for test in chosen)
    files = list(dict.fromkeys(test.split("::")[0] for test in chosen))
    with copy.changed(case.path, case.mutant.apply(case.source)):
        plugin = Chosen({test: place for place, test in enumerate(chosen)})
        status = run(copy, ["-x", *files], limit=limit, plugin=plugin, log=log)
    return row | {"result": {PASSED: ALIVE, NO_TESTS: UNSEEN, TOO_LONG: SLOW}.get(status, KILLED)}


def report(rows: Sequence[dict[str, Any]]) -> str:
    """The survivors, then the score of every folder."""
    lines = []
    for row in sorted((r for r in rows if r["result"] in (ALIVE, UNSEEN)), key=lambda r: (r["path"], r["line"])):
        seen = f"{row['tests']} of {row['of']} tests passed" if row["result"] == ALIVE else "no test runs it"
        lines += [f"{row['path']}:{row['line']}: {row['operator']}: {seen}", f"  - {row['before']}", f"  + {row['after']}"]
    killed = Counter(folder_of(row["path"]) for row in rows if row["result"] in (KILLED, SLOW))
    for folder, total in sorted(Counter(folder_of(row["path"]) for row in rows).items()):
        lines.append(f"{folder}: {killed[folder]} of {total} killed ({killed[folder] / total:.1%})")
    return "\n".join(lines)


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--sample", type=int, metavar="N", help="a random sample of N mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument(
        "--only", metavar="PATH[:LINE]", help="a file or a folder, from the root of the repository; or one line"
    )
    parser.add_argument("--seconds", type=float, default=30, help="of tests for each mutant, the quickest first (30)")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="of the tests of a folder only those below these paths")
    parser.add_argument("--again", choices=("alive", "all"), help="run anew what is in the results: survivors, or everything")
    parser.add_argument("--out", type=Path, default=Path("out/mutants"), help="where results are kept (out/mutants)")
    parser.add_argument("--list", action="store_true", help="count the mutants, and run none")
    return parser.parse_args(given)


def _known(file: Path, again: str | None) -> dict[str, dict[str, Any]]:
    """The results so far; the last one of a mutant counts, and a line that an interrupt cut off does not."""
    known = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() and again != "all" else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        known[row["key"]] = row
    return {key: row for key, row in known.items() if again is None or row["result"] not in (ALIVE, UNSEEN)}


def main(given: Sequence[str], root: Path | None = None) -> int:
    """Returns 1 if there are survivors."""
    root = root or Path.cwd()
    options = _arguments(given)
    only, _, line = (options.only or "").partition(":")
    chosen = cases(root, sources(root, only or None), int(line) if line else None)
    if options.sample is not None and options.sample < len(chosen):
        chosen = random.Random(options.seed).sample(chosen, options.sample)
    if options.list:
        print("\n".join(f"{path}: {count}" for path, count in sorted(Counter(case.path for case in chosen).items())))
        return 0
    out = root / options.out
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    known = _known(results, options.again)
    left = [case for case in chosen if case.key not in known]
    if left:
        warm_up()
        with tempfile.TemporaryDirectory(prefix="mutants-") as place, results.open("a", encoding="utf-8") as to:
            copy = Copy(root, Path(place))
            folders = [folder for folder in TESTS if any(folder_of(case.path) == folder for case in left)]
            tests = watch(copy, folders, out / "tests", options.tests)
            for at, case in enumerate(left, 1):
                row = judge(copy, case, tests, options.seconds, out / "log.txt")
                known[case.key] = row
                print(f"{at}/{len(left)} {row['result']}: {case.path}:{case.mutant.line} {row['after']}", flush=True)
                to.write(json.dumps(row) + "\n")
                to.flush()
    rows = [known[case.key] for case in chosen]
    print(report(rows))
    return int(any(row["result"] in (ALIVE, UNSEEN) for row in rows))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what runs, and removes the copy
    sys.exit(main(sys.argv[1:]))
