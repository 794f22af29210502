"""The report for a paper: tables with booktabs, figures with pgfplots, BibTeX, and a document that includes them."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sharpmin.core.latex import escaped, joined, tabular
from sharpmin.theory import Verdict, theorems

from ._markup import pretty
from ._style import Plate, light
from ._view import SettingView, grid

if TYPE_CHECKING:
    import plotly.graph_objects as go

RELATIONS = {"<=": r"$\le$", ">=": r"$\ge$", "==": "$=$", "<": "$<$"}
DASHES = {"dash": "dashed", "dot": "dotted", "dashdot": "dash dot"}
MARKS = {"square": "square*", "diamond": "diamond*"}
POINTS = 300
"""The approximate largest number of points of a curve."""


def papers(verdicts: Sequence[Verdict], figures: Sequence[Plate], settings: Sequence[SettingView]) -> dict[str, str]:
    r"""Name of file to text; `main.tex` is a document of its own, the others are for `\input`.

    Args:
        verdicts: in the order of the table.
        figures: from `figures.draw`; the contours of the first are left out.
        settings: the cells of the settings table.
    """
    drawn = {f"figure-{plate.id}.tex": plate_tex(plate) for plate in figures}
    known = theorems()
    cited = dict.fromkeys(paper for v in verdicts if v.id in known for paper in known[v.id].references)
    tables = {"statements.tex": statements_tex(verdicts), "settings.tex": settings_tex(settings)}
    bib = "\n\n".join(paper.bibtex() for paper in cited) + "\n"
    return {**tables, **drawn, "references.bib": bib, "main.tex": _main([*tables, *drawn])}


def statements_tex(verdicts: Iterable[Verdict]) -> str:
    """One row per statement: measured value and bound, from the comparison with the least room."""
    rows = [
        [
            ", ".join(v.claim), escaped(v.id), formula(v.title), v.kind, number(v.measured), RELATIONS[v.relation],
            number(v.bound), number(v.ratio, 3), "refuted" if not v.holds else "vacuous" if v.vacuous else "holds",
        ]
        for v in verdicts
    ]  # fmt: skip
    heads = ("claim", "statement", "what it says", "kind", "measured", "", "bound", "ratio", "verdict")
    return tabular("llllrcrrl", heads, rows)


def settings_tex(settings: Sequence[SettingView]) -> str:
    """Where SAM converges: one row per oracle and setting, one column per radius; below it the bound of each statement."""
    rows: list[list[str] | str] = []
    radii: list[str] = []
    last = ""
    for oracle, setting, cells in grid(settings):
        radii = [radius for radius, _ in cells]
        if oracle != last:
            rows.append(escaped(oracle))
            last = oracle
        rows.append([escaped(setting), *(" ".join(_answer(cell) for cell in here) or "--" for _, here in cells)])
    table = tabular("l" * (1 + len(radii)), ["setting", *map(escaped, radii)], rows)
    bounds = {s.ids[0]: s.bound for s in settings if s.ids and s.bound}
    listed = tabular("ll", ["statement", "bound"], [[escaped(name), formula(text)] for name, text in bounds.items()])
    return f"{table}\n\\smallskip\n$^*$ measured, not proved\n\n\\bigskip\n\n{listed}"


def _answer(cell: SettingView) -> str:
    word = {True: "yes", False: "no", None: "open"}[cell.all_the_way]
    star = "" if cell.proved or cell.all_the_way is None else "$^*$"
    return word + star + (f" ({escaped(cell.ids[0])})" if cell.ids else "")


def formula(text: str) -> str:
    r"""A short text with formulas in plain text, such as `beta^2 rho_t`, as LaTeX.

    >>> print(formula("a floor of beta^2 rho^2/(2 mu) & more"))
    a floor of $\beta^{2}$ $\rho^{2}$/(2 $\mu$) \& more
    """
    return _of_html(pretty(html.escape(text, quote=False)))


def _of_html(safe: str) -> str:
    """Text with `<sub>` and `<sup>`, as in axis titles, as LaTeX."""
    out: list[str] = []
    at = 0
    for found in re.finditer(r"<(sub|sup)>(.*?)</\1>", safe):
        inner = escaped(html.unescape(found[2])).replace("$", "")
        out += [escaped(html.unescape(safe[at : found.start()])), f"${'_' if found[1] == 'sub' else '^'}{{{inner}}}$"]
        at = found.end()
    return joined("".join([*out, escaped(html.unescape(safe[at:]))]))


def number(value: float, digits: int = 4) -> str:
    r"""A number as LaTeX.

    >>> print(number(1.2479e-8), number(-0.25), number(math.inf))
    $1.248 \times 10^{-8}$ $-0.25$ $\infty$
    """
    if not math.isfinite(value):
        return f"${value}$".replace("inf", r"\infty").replace("nan", r"\mathrm{nan}")
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    return f"${mantissa} \\times 10^{{{int(exponent)}}}$" if exponent else f"${mantissa}$"


def plate_tex(plate: Plate) -> str:
    """A `figure` with its panels side by side and its sentence below."""
    panels = [
        f"\\begin{{minipage}}[t]{{0.49\\textwidth}}\\centering\n{escaped(caption)}\\\\\n{axis_tex(drawn)}\\end{{minipage}}"
        for caption, drawn in plate.panels
    ]
    legend = r"\quad ".join(f"\\textcolor{_color(key.role)}{{{_rule(key.dash)}}} {escaped(key.name)}" for key in plate.keys)
    caption = f"\\caption{{{escaped(plate.title)}. {escaped(plate.sentence)}}}\n\\label{{fig:{plate.id}}}"
    return (
        "\\begin{figure}\n\\centering\n" + "\\hfill\n".join(panels) + f"\n\n\\medskip\n{legend}\n{caption}\n\\end{{figure}}\n"
    )


def axis_tex(drawn: go.Figure) -> str:
    """The curves of one panel as a `tikzpicture`; contours and texts inside are left out."""
    options, logarithmic = ["width=\\textwidth"], {}
    for name, axis in (("x", drawn.layout.xaxis), ("y", drawn.layout.yaxis)):
        logarithmic[name] = axis.type == "log"
        options.append(f"{name}label={{{_of_html(axis.title.text or '')}}}")
        options += [f"{name}mode=log"] if logarithmic[name] else []
        if axis.range:
            low, high = ((10**v if logarithmic[name] else v) for v in axis.range)
            options += [f"{name}min={low:.6g}", f"{name}max={high:.6g}"]
    plots = [_plot(trace, logarithmic) for trace in drawn.data if trace.type == "scatter"]
    body = "".join(plots)
    return f"\\begin{{tikzpicture}}\n\\begin{{axis}}[{', '.join(options)}]\n{body}\\end{{axis}}\n\\end{{tikzpicture}}\n"


def _plot(trace: Any, logarithmic: dict[str, bool]) -> str:
    marks = trace.mode == "markers"
    color = (trace.marker.color if marks else trace.line.color) or "#000000"
    mark = MARKS.get(trace.marker.symbol, "*")
    look = ["only marks", f"mark={mark}", "mark size=1.5pt"] if marks else ["mark=none", "thick"]
    look += [DASHES[trace.line.dash]] if not marks and trace.line.dash in DASHES else []
    step = -(-len(trace.x) // POINTS) | 1  # odd, so that both points of a two-cycle are kept
    points = [
        f"({x:.6g},{y:.6g})"
        for x, y in zip(trace.x[::step], trace.y[::step], strict=True)
        if all(math.isfinite(v) and (v > 0 or not logarithmic[name]) for name, v in (("x", x), ("y", y)))
    ]
    rgb = _rgb(color if isinstance(color, str) else "#000000")
    return f"\\addplot[color={{{rgb}}}, {', '.join(look)}] coordinates {{{' '.join(points)}}};\n"


def _rgb(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgb,255:red,{red};green,{green};blue,{blue}"


def _color(role: str) -> str:
    return "[HTML]{" + light(role).removeprefix("#").upper() + "}"


def _rule(dash: str) -> str:
    return {
        "circle": r"$\bullet$",
        "square": r"$\blacksquare$",
        "diamond": r"$\blacklozenge$",
        "dash": "- -",
        "dot": r"$\cdots$",
    }.get(dash, "---")


def _main(names: Iterable[str]) -> str:
    """A document that includes all files; the table of statements is as wide as the page."""
    shown = {"statements.tex": r"\noindent\resizebox{\textwidth}{!}{\input{statements.tex}}"}
    shown["settings.tex"] = "\\begin{center}\\footnotesize\n\\input{settings.tex}\n\\end{center}"
    inputs = "\n".join(shown.get(name, f"\\input{{{name}}}") for name in names)
    packages = r"\usepackage[a4paper,margin=15mm]{geometry}" "\n" r"\usepackage{amssymb,booktabs,pgfplots,xcolor}"
    return (
        f"\\documentclass{{article}}\n{packages}\n\\pgfplotsset{{compat=1.16}}\n\\begin{{document}}\n{inputs}\n"
        "\\nocite{*}\n\\bibliographystyle{plain}\n\\bibliography{references}\n\\end{document}\n"
    )
