"""The markdown of statements, as HTML: bold, code, indented formulas, Greek letters, links to papers."""

from __future__ import annotations

import html
import re
import textwrap

_FENCE = "```"

_GREEK = {
    "Delta": "Δ", "beta": "β", "delta": "δ", "kappa": "κ", "lam": "λ", "lambda": "λ", "mu": "μ", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "theta": "θ", "xi": "ξ",
}  # fmt: skip
_WORD = re.compile(rf"(?<![A-Za-z_.])({'|'.join(_GREEK)})(?![A-Za-z_(=])")
_SIGNS = [
    ("&lt;=", "≤"),
    ("&gt;=", "≥"),
    ("-&gt;", "→"),
    ("+-", "±"),
    ("O~", "Õ"),
    ("Theta~", "Θ̃"),
    (" - ", " − "),
]
_POWER = re.compile(r"\^(?:(\d+(?:\.\d+)?|[tT])|\(([^()]*)\))")
_INDEX = re.compile(r"(?<![A-Za-z])([A-Za-zα-ωΔ]'?|mean|sum|min|max)_(?:([A-Za-z0-9±+*]+)(?![A-Za-z0-9_(=])|\{([^{}]*)\})")
_MINUS = re.compile(r"(?<=[(\^ ])-(?=\d)")
_BEFORE_INDEX = re.compile(rf"(?<![A-Za-z_.])({'|'.join(_GREEK)})(?=_(?:[a-z0-9]|xi)\b)")


def pretty(safe: str) -> str:
    """Escaped text with names of Greek letters, powers and indices turned into symbols.

    >>> pretty("rho_t^2 &lt;= beta^2 mu^(-1)")
    'ρ<sub>t</sub><sup>2</sup> ≤ β<sup>2</sup> μ<sup>−1</sup>'
    """
    for sign, character in _SIGNS:
        safe = safe.replace(sign, character)
    safe = _MINUS.sub("−", _BEFORE_INDEX.sub(lambda m: _GREEK[m[1]], safe))
    safe = _INDEX.sub(lambda m: f"{m[1]}<sub>{_GREEK.get(m[2] or '', m[2]) or m[3]}</sub>", safe)
    safe = _WORD.sub(lambda m: _GREEK[m[1]], safe)
    safe = re.sub(r"\b([tx])0\b", r"\1<sub>0</sub>", safe)
    return _POWER.sub(lambda m: f"<sup>{m[1] or m[2]}</sup>", safe)


def markup(text: str) -> str:
    r"""HTML of `text`; everything in it is escaped.

    >>> markup("**Statement.** a < b\n\n    f(x) <= 1")
    '<p><strong>Statement.</strong> a &lt; b</p>\n<pre>f(x) ≤ 1</pre>'
    """
    return "\n".join(_block(block) for block in _blocks(text))


def _blocks(text: str) -> list[str]:
    """Paragraphs; a fenced or indented block is one, including its blank lines."""
    blocks: list[list[str]] = [[]]
    fenced = False
    for row in text.strip("\n").splitlines():
        if row.strip().startswith(_FENCE):
            fenced = not fenced
            blocks.append([])
            continue
        inset = "    " + row if fenced else row
        last = blocks[-1]
        turns = last and inset.strip() and inset.startswith("    ") != last[-1].startswith("    ")
        if turns or not (row.strip() or fenced):
            blocks.append([])
        if inset.strip() or fenced:
            blocks[-1].append(inset)
    return ["\n".join(block) for block in blocks if block]


def _block(block: str) -> str:
    if block.startswith("    "):
        return f"<pre>{pretty(html.escape(textwrap.dedent(block), quote=False))}</pre>"
    rows = block.splitlines()
    if all(row.startswith(("- ", "  ")) for row in rows) and rows[0].startswith("- "):
        items = re.split(r"\n?^- ", block, flags=re.MULTILINE)[1:]
        return "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in items) + "</ul>"
    return f"<p>{inline(block)}</p>"


def inline(text: str) -> str:
    """One paragraph: `code`, **bold** and arXiv numbers.

    >>> inline("`a*b` and <b>")
    '<code>a*b</code> and &lt;b&gt;'
    """
    parts = re.split(r"(`+[^`]+`+)", " ".join(text.split()))
    return "".join(_code(part) if i % 2 else _plain(part) for i, part in enumerate(parts))


def _code(text: str) -> str:
    return f"<code>{html.escape(text.strip('`'), quote=False)}</code>"


def _plain(text: str) -> str:
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", pretty(html.escape(text, quote=False)))
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', safe)
