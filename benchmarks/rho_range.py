"""Is `rho_range` right? Its claims on six tasks against whole runs over the same grid, scored on held-out samples.

    python benchmarks/rho_range.py [--out out/rho_range.jsonl]

About fifteen minutes on one idle core. Each finished part is a line of the file, so the same command resumes an interrupted
benchmark. Thresholds were chosen on the first three tasks and are evaluated on the others (_rho_tasks.py).
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _rho_tasks import CHEAP, EPOCHS, FINE, FIXED, GRID, JUDGED, SEEDS, Test, Training, test, tests, train

from sharpmin.core.jsonable import jsonable
from sharpmin.diagnostics import RhoPoint
from sharpmin.diagnostics._rho.rules import USUAL, Claims, claims
from sharpmin.diagnostics._run.statistics import LEFT
from sharpmin.diagnostics.toggle import Difference
from sharpmin.runs import Store


def results(file: Path) -> dict[Any, dict[str, Any]]:
    """All results; those in the file are not computed again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    store, wanted = (
        Store(file),
        [*(Training(*task) for task in (*FIXED, *JUDGED)), *(Training(*task, FINE) for task in CHEAP), *tests()],
    )
    for cell in wanted:
        if cell not in store.known([cell]):
            begin = time.process_time()
            row = train(cell) if isinstance(cell, Training) else test(cell)
            store.add({"id": cell.id, **jsonable(row)})
            print(f"{cell}: {time.process_time() - begin:.0f} s of a processor", flush=True)
    return store.known(wanted)


def said(record: Mapping[str, Any]) -> Claims:
    """The claims of the current rules, from the stored numbers, so that a change of the rules needs no new run."""

    def number(value: float | None) -> float:
        return math.nan if value is None else value

    points = []
    for row in record["points"]:
        fall = None if row["fall"] is None else Difference(**row["fall"])
        losses = tuple(number(loss) for loss in row["losses"])
        points.append(RhoPoint(**{**row, "losses": losses, "fall": fall}))
    return claims(points, tuple(number(loss) for loss in record["without"]))


class Task:
    """The whole runs of one task, and the claims of `rho_range` for each seed."""

    def __init__(self, task: tuple[str, float], found: Mapping[Any, Mapping[str, Any]]):
        self.name = f"{task[0]}, {task[1]:.0%} noise" if task[1] else f"{task[0]}, clean"
        self.runs = {(run["rho"], run["seed"]): run for run in found[Training(*task)]["runs"]}
        self.said = [said(found[Test(*task, seed)]["run"]) for seed in SEEDS]
        self.fine = None
        if task in CHEAP:
            self.fine = [said(found[Test(*task, seed, FINE[1:])]["run"]).no_effect for seed in SEEDS]
            finer = found[Training(*task, FINE)]["runs"]
            self.runs |= {(run["rho"], run["seed"]): run for run in finer if run["rho"]}

    def error(self, rho: float, seed: int) -> float:
        """The error on held-out samples, in per cent."""
        return 100 * self.runs[rho, seed]["error"]

    def mean(self, rho: float) -> float:
        """The mean error over seeds."""
        return statistics.fmean(self.error(rho, seed) for seed in SEEDS)

    def best(self) -> float:
        """The radius of the grid with the least mean error."""
        return min((rho for rho in GRID if rho), key=self.mean)

    def against(self, rhos: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
        """The mean difference of the errors, seed by seed, and its standard error."""
        pairs = zip(rhos, other, SEEDS, strict=True)
        falls = [self.error(a, seed) - self.error(b, seed) for a, b, seed in pairs]
        return statistics.fmean(falls), statistics.stdev(falls) / math.sqrt(len(falls))

    def collapsed(self, seed: int) -> float | None:
        """The smallest radius whose run collapsed: its loss in the last epoch is not finite, or about that in the first."""
        for rho in sorted(rho for rho in GRID if rho):
            first, *_, last = self.runs[rho, seed]["losses"]
            if last is None or last >= LEFT * first:
                return rho
        return None


def show(task: Task) -> None:
    """Print the table of one task."""
    print(f"\n{task.name}")
    for rho in GRID:
        errors = " ".join(f"{task.error(rho, seed):5.1f}" for seed in SEEDS)
        print(f"  rho {rho:<5g} error {task.mean(rho):5.1f} %  ({errors})")
    firsts = [c.first for c in task.said]
    usual, first = [USUAL] * len(SEEDS), statistics.fmean(task.error(c.first, s) for c, s in zip(task.said, SEEDS, strict=True))
    best = task.best()
    print(f"  best {best:g}: {task.mean(best):.1f} %; at .05: {task.mean(USUAL):.1f} %; at first {firsts}: {first:.1f} %")
    print("  first - .05: {:+.1f} ± {:.1f} (one standard error)".format(*task.against(firsts, usual)))
    told, true = [c.collapse for c in task.said], [task.collapsed(s) for s in SEEDS]
    print(f"  collapse said {told}, true {true}")
    for grid, still in (("grid", [c.no_effect for c in task.said]), ("finer grid", task.fine)):
        if still is not None and None not in still:
            print(f"  hardly any effect, {grid}, up to {still}: {{:+.1f}} ± {{:.1f}}".format(*task.against(still, [0.0] * 3)))
        elif still is not None:
            print(f"  hardly any effect, {grid}, up to {still}")


def main() -> None:
    """Run what is missing, then print every table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/rho_range.jsonl"))
    found = results(parser.parse_args().out)
    print(f"epochs {EPOCHS}, seeds {SEEDS}")
    for title, tasks in (("thresholds were chosen on", FIXED), ("thresholds are judged on", JUDGED)):
        print(f"\n{title}:")
        for task in tasks:
            show(Task(task, found))


if __name__ == "__main__":
    main()
