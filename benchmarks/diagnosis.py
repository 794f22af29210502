"""How often is the verdict right? Every rule of `sharpmin.diagnose` against the true answer from branches of the same run.

    python benchmarks/diagnosis.py [--full] [--ordinary] [--out out/diagnosis.jsonl]
        [--workers 2 | --scheduler tcp://host:8786]

Ten minutes on two cores, about an hour with --full, two and a half with --ordinary: 294 ordinary runs under seven schedules,
with SGD with momentum and AdamW, on four data sets (_ordinary.py; their tables are from _confusion.py). Each finished run is a
line of the file, so the same command resumes an interrupted one. The other runs: softmax regression (the optimum is known, and
so are the parts of the gap), small nets with and without label noise (the true answer is the fall of the loss in a branch with
rho = 0), symmetric noise around the optimum (E[D] = 0: the p-value must not reject), and runs whose answer is known:
two-cycle, E1, E3.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _cells import Cell
from _cells import run as run_cell
from _confusion import of_ordinary, share
from _ordinary import Ordinary, ordinary
from _ordinary import run as run_ordinary

from sharpmin.cli._interrupt import Interrupted
from sharpmin.cli._runs import complete, place
from sharpmin.diagnostics._run.verdict import SHARE
from sharpmin.runs import Store

HOLDS, FREE, HELPS = "rho holds the loss up", "SAM is not what limits the loss", "SAM speeds the descent up"


def cells(*, full: bool) -> list[Cell]:
    """The runs, with those of the short benchmark first."""
    net = [
        Cell("net", data, "momentum", lr, rho, noise)
        for data, noise, rho, lr in itertools.product(
            ("digits", "mnist1d"), (0.0, 0.3), (0.01, 0.05, 0.1, 0.2, 0.4), (0.0025, 0.01)
        )
    ]
    grid = [("sgd", 0.03), ("sgd", 0.1), ("momentum", 0.01), ("adam", 0.003)]
    convex = [Cell("convex", "breast_cancer", base, lr, rho) for (base, lr), rho in itertools.product(grid, (0.02, 0.05, 0.2))]
    known = [Cell("worst-case", "two-cycle", "sgd", 0.1, 0.1, 1e-5), Cell("worst-case", "e1", "sgd", 0.1, 1.0)]
    known += [Cell("worst-case", "e3", "sgd", 0.1, 0.5), Cell("convex", "breast_cancer", "sgd", 0.1, 1e-4)]
    nulls = [Cell("null", "quadratic", "sgd", 0.05, 0.2, seed=seed) for seed in range(200 if full else 100)]
    if full:
        net += [Cell("net", d, b, lr, rho, z, s) for d, z, rho, (b, lr), s in itertools.product(
            ("digits", "mnist1d"), (0.0, 0.3), (0.02, 0.1, 0.2), (("momentum", 0.005), ("adam", 0.001), ("sgd", 0.02)), (1, 2)
        )]  # fmt: skip
        convex += [Cell("convex", "digits", base, lr, rho) for (base, lr), rho in itertools.product(grid, (0.05, 0.2))]
        convex += [Cell("convex", "breast_cancer", base, lr, rho, seed=seed)
                   for seed, (base, lr), rho in itertools.product((1, 2), grid, (0.02, 0.05, 0.1, 0.2))]  # fmt: skip
        convex += [Cell("convex", "breast_cancer", "sgd", 0.1, rho, reshuffled=True) for rho in (1e-4, 0.05)]
    return known + convex + net + nulls


def results(wanted: Sequence[Cell | Ordinary], file: Path, where: tuple[int | None, str | None]) -> dict[Any, dict[str, Any]]:
    """All results; those in the file are not computed again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    store = Store(file)
    complete("diagnosis", one, wanted, store, where)
    return store.known(wanted)


def one(cell: Cell | Ordinary) -> dict[str, Any]:
    """The row of a cell; the workers of a cluster need PYTHONPATH=benchmarks."""
    return {"id": cell.id, **(run_cell(cell) if isinstance(cell, Cell) else run_ordinary(cell))}


def of_nets(found: dict[Cell, dict[str, Any]], name: str) -> None:
    """The confusion table of the rules against branches with rho = 0."""
    rows = list(found.items())
    if not rows:
        return
    truly = {cell: r["truth"] >= SHARE * r["loss"] for cell, r in rows}
    print(f"{name}: {len(rows)} runs; truth: rho = 0 lowers the loss by {SHARE:.1%} of it within the horizon (5 branches)")
    print(f"  {'verdict':34} {'rho holds':>10} {'it does not':>12}")
    for state in sorted({r["state"] for _, r in rows}):
        said = [cell for cell, r in rows if r["state"] == state]
        print(f"  {state:34} {sum(truly[c] for c in said):10} {sum(not truly[c] for c in said):12}")
    said = [cell for cell, r in rows if r["state"] == HOLDS]
    print(f"  rule 1: precision {share(sum(truly[c] for c in said), len(said))} (asked: 90 %), recall", end=" ")
    print(f"{share(sum(truly[c] for c in said), sum(truly.values()))} (asked: 75 %)")
    wrong = [cell for cell, r in rows if r["state"] == FREE and truly[cell]]
    print(f"  rule 2 wrong: {share(len(wrong), sum(r['state'] == FREE for _, r in rows))} (asked: none)")
    clear = [r for _, r in rows if r["clear"]]
    print(f"  sign of the effect: {share(sum((r['fall'] > 0) == (r['truth'] > 0) for r in clear), len(clear))} (asked: 90 %)")
    near = [r["fall"] / r["truth"] for c, r in rows if r["state"] == HOLDS and r["truth"] > 0]
    print(f"  predicted fall within a factor 3: {share(sum(1 / 3 <= q <= 3 for q in near), len(near))}")


def of_convex(found: dict[Cell, dict[str, Any]]) -> None:
    """The estimated parts of the gap against the branch with rho = 0."""
    rows = [(c, r) for c, r in found.items() if c.kind == "convex" and c.rho >= 0.02 and not c.reshuffled]
    clear = [(c, r) for c, r in rows if not 0.5 <= max(r["truth"], 1e-12) / r["rest"] <= 2]
    right = sum(r["state"] == ("rho floor" if r["truth"] > r["rest"] else "noise floor") for _, r in clear)
    print(f"convex, rho >= .02: right in {share(right, len(clear))} where one part is twice the other (asked: 95 %)")
    for c, r in rows:
        said = f"{r['of_rho']:.2e} / {r['truth']:.2e}, noise {r['of_noise']:.2e} / {r['rest']:.2e}"
        print(f"  {c.data} {c.base} lr {c.lr} rho {c.rho}: gap {r['gap']:.2e}; rho's part said / true {said}: {r['state']}")
    for c, r in found.items():
        if c.kind == "convex" and (c.rho < 0.02 or c.reshuffled):
            print(f"  lr {c.lr} rho {c.rho} reshuffled {c.reshuffled}: W / truth {r['W'] / r['rest']:.2f}: {r['state']}")


def of_known(found: dict[Cell, dict[str, Any]]) -> None:
    """The runs without an effect of rho, and the worst cases."""
    nulls = [r["p_value"] for c, r in found.items() if c.kind == "null"]
    print(f"symmetric noise: {share(sum(p < 0.05 for p in nulls), len(nulls))} rejected at 5 % (asked: at most 8 %)")
    for c, r in found.items():
        if c.kind == "worst-case":
            lag = math.nan if r["lag"] is None else r["lag"]
            numbers = (
                f"a {r['amplification']:.3g}, S {r['bounce']:.3g}, lag {lag:.3g}, toggle {r['truth']:.3g} of {r['gap']:.3g}"
            )
            print(f"  {c.data}: {r['state']}; {numbers}")


def main() -> None:
    """Run what is missing, then print every table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--ordinary", action="store_true", help="the runs with moving learning rates, and no others")
    parser.add_argument("--out", type=Path, default=Path("out/diagnosis.jsonl"))
    parser.add_argument("--workers", type=int, help="processes on this machine, by default 2")
    parser.add_argument("--scheduler", help="a Dask scheduler, whose workers are used instead")
    options = parser.parse_args()
    try:
        where = place(options.workers, options.scheduler)
        found = results(ordinary() if options.ordinary else cells(full=options.full), options.out, where)
    except (Interrupted, OSError, ValueError) as error:
        sys.exit(f"diagnosis: {error}")
    if options.ordinary:
        of_ordinary(found)
        return
    nets = {cell: row for cell, row in found.items() if cell.kind == "net"}
    of_nets({cell: row for cell, row in nets.items() if cell.seed == 0}, "nets that the rules were made on")
    of_nets({cell: row for cell, row in nets.items() if cell.seed == 1}, "nets that were looked at for the rules")
    of_nets({cell: row for cell, row in nets.items() if cell.seed == 2}, "nets that the rules had not seen")
    of_convex(found)
    of_known(found)


if __name__ == "__main__":
    main()
