"""The table for papers: CSV, and LaTeX with booktabs."""

from __future__ import annotations

import csv
import io

from sharpmin.core.latex import escaped, tabular

from ._estimate import Estimate
from ._frontier import places
from ._methods import title
from ._settings import setting
from ._table import table
from ._trials import Rows

COLUMNS = (
    "data", "noise", "method", "lr", "rho", "runs", "passes", "seconds", "copies", "accuracy", "accuracy_half", "gain",
    "gain_half", "loss", "gap", "collapsed", "place", "dominated_by",
)  # fmt: skip


def to_csv(rows: Rows) -> str:
    """The `rows` as CSV, one line per method.

    Accuracies and gains are shares, `_half` is half of a 95 % interval, passes and seconds are relative.
    """
    lines, data = table(rows), next(iter(rows)).data
    where, out = places(rows, lines), io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        place, record = where[line.method, line.noise], line.record()
        flat = {k: v for k, v in record.items() if k in COLUMNS and not isinstance(v, dict)}
        for name in ("accuracy", "gain", "loss", "gap"):
            flat[name] = record[name]["mean"]
        halves = {f"{name}_half": record[name]["half"] for name in ("accuracy", "gain")}
        writer.writerow({"data": data, **flat, **halves, "place": place.word, "dominated_by": place.beaten_by or ""})
    return out.getvalue()


def to_latex(rows: Rows) -> str:
    """The `rows` as a `tabular` that needs the package booktabs; methods on the frontier are bold."""
    lines, s = table(rows), setting(next(iter(rows)).data)
    where = places(rows, lines)
    body: list[list[str] | str] = []
    for noise in sorted({line.noise for line in lines}):
        body.append(_noise(noise))
        for line in (line for line in lines if line.noise == noise):
            name = escaped(title(line.method, s))
            if where[line.method, noise].beaten_by is None:
                name = rf"\textbf{{{name}}}"
            body.append([
                name, f"{line.passes:.2f}", f"{line.seconds:.2f}", f"{line.copies:g}", f"{line.lr:.3g}",
                f"{line.rho:g}" if line.rho else "--", _number(line.accuracy), _number(line.gain),
            ])  # fmt: skip
    return tabular("lrrrrrrr", ("method", "passes", "time", "copies", "lr", r"$\rho$", r"accuracy, \%", "gain"), body)


def _number(value: Estimate) -> str:
    return "$" + value.text(100).replace(" ± ", r" \pm ") + "$"


def _noise(noise: float) -> str:
    return escaped(f"{noise:.0%} label noise") if noise else "clean labels"
