"""LaTeX: text with its special characters escaped, and a table with booktabs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": "$<$", ">": "$>$", "|": r"$\vert$",
    "\u00a0": "~", "–": "--", "−": "$-$", "×": r"$\times$", "±": r"$\pm$", "²": "$^2$", "½": r"$\frac{1}{2}$",
    "≤": r"$\le$", "≥": r"$\ge$", "→": r"$\to$", "√": r"$\surd$", "∞": r"$\infty$", "·": r"$\cdot$", "‖": r"$\Vert$",
    "∇": r"$\nabla$", "∝": r"$\propto$", "’": "'", "‘": "`",
    "Δ": r"$\Delta$", "β": r"$\beta$", "δ": r"$\delta$", "κ": r"$\kappa$", "λ": r"$\lambda$", "μ": r"$\mu$", "ρ": r"$\rho$",
    "σ": r"$\sigma$", "τ": r"$\tau$", "θ": r"$\theta$", "ξ": r"$\xi$", "π": r"$\pi$", "Õ": r"$\tilde O$",
}  # fmt: skip


def escaped(text: str) -> str:
    r"""Text as LaTeX shows it: special characters escaped, Greek letters and signs as mathematics.

    >>> escaped("50 % of β² & x_t")
    '50 \\% of $\\beta^2$ \\& x\\_t'
    """
    return joined("".join(_SIGNS.get(character, character) for character in text))


def joined(text: str) -> str:
    """Join adjacent formulas into one."""
    return text.replace(r"\$", "\0").replace("$$", "").replace("\0", r"\$")


def tabular(columns: str, heads: Sequence[str], rows: Iterable[Sequence[str] | str]) -> str:
    r"""A `tabular` that needs the package booktabs.

    Args:
        columns: an alignment for each, such as "lrr".
        heads: of the columns, as LaTeX.
        rows: cells as LaTeX, as many as columns; or a string, which is a line across them, set off by a rule.

    Raises:
        ValueError: if a row has another number of cells.

    >>> print(tabular("lr", ["method", "loss"], [["SAM", "0.5"]]), end="")
    \begin{tabular}{lr}
    \toprule
    method & loss \\
    \midrule
    SAM & 0.5 \\
    \bottomrule
    \end{tabular}
    """
    body: list[str] = []
    for row in (heads, *rows):
        if isinstance(row, str):
            body.append(rf"\midrule \multicolumn{{{len(columns)}}}{{l}}{{{row}}} \\")
            continue
        if len(row) != len(columns):
            raise ValueError(f"tabular: a row has {len(row)} cells, {len(columns)} are needed: {list(row)}")
        body.append(" & ".join(row) + r" \\")
    if len(body) > 1 and not body[1].startswith(r"\midrule"):
        body.insert(1, r"\midrule")
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}", ""])
