"""The words, numbers and signs of a formula in plain text."""

from __future__ import annotations

import re
from dataclasses import dataclass

GREEK = {
    "Delta": "Δ", "Theta": "Θ", "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eps": "ε", "kappa": "κ", "lam": "λ",
    "lambda": "λ", "mu": "μ", "phi": "φ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "theta": "θ", "xi": "ξ",
}  # fmt: skip
NAMES = {
    "lr", "exp", "log", "max", "min", "sup", "inf", "sum", "mean", "sqrt", "grad", "Lg", "cos", "sin", "tanh", "cosh", "sign",
    "clip", "lim", "prod",
}  # fmt: skip
"""Words of several letters that are mathematics."""
OPENING = {"(", "[", "{", "||", "|", "<."}
CLOSING = {"(": ")]", "[": ")]", "{": "}", "||": "||", "|": "|", "<.": ".>"}
"""A half-open interval closes with the other bracket."""

_TOKEN = re.compile(
    r"(?P<gap> {3,})|(?P<space>\s+)|(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:e-?\d+)?)|(?P<word>[A-Za-z]+\d*)"
    r"|(?P<sign><=|>=|!=|->|==|\+-|\|\||\.\.\.|.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """A piece of a formula.

    Attributes:
        kind: word, number, sign, gap (a wide space) or text (words that are no mathematics).
        text: as written; superscripts as `sup*`, `sup+`, `sup'`, and angles as `<.` and `.>`.
        spaced: whether a space stands before it.
    """

    kind: str
    text: str
    spaced: bool = False


def is_name(word: str) -> bool:
    """Whether a word stands for a quantity: a Greek one, one letter with or without a number, or a known name."""
    letters = word.rstrip("0123456789")
    return letters in GREEK or letters in NAMES or len(letters) == 1


def tokens(text: str) -> list[Token]:
    """The pieces, with neighboring words that are no mathematics joined.

    >>> [token.text for token in tokens("f* <= |x|^2 for all x")]
    ['f', 'sup*', '<=', '|', 'x', '|', '^', '2', 'for all', 'x']
    """
    found: list[Token] = []
    spaced = False
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind == "space":
            spaced = True
            continue
        token = _token(kind, match, text, spaced)
        spaced = kind == "gap"
        if token.kind == "text" and found and found[-1].kind == "text":
            found[-1] = Token("text", f"{found[-1].text} {token.text}", found[-1].spaced)
        else:
            found.append(token)
    return found


def _token(kind: str, match: re.Match[str], text: str, spaced: bool) -> Token:
    piece = match[0]
    before, after = text[: match.start()], text[match.end() :]
    if kind == "word":
        prose = not is_name(piece) or (piece in ("a", "A", "I") and _prose_follows(after))
        if piece == "in" and re.match(r"\s*[\[({]", after):
            return Token("sign", "∈", spaced)
        return Token("text" if prose else "word", piece, spaced)
    if kind == "sign":
        return Token("sign", _sign(piece, before, after), spaced)
    return Token(kind, piece, spaced)


def _prose_follows(after: str) -> bool:
    word = re.match(r"\s+([A-Za-z]+)", after)
    return word is not None and not is_name(word[1])


def _sign(piece: str, before: str, after: str) -> str:
    touching = bool(re.search(r"[A-Za-z0-9)}]$", before))
    apart = {
        "*": ("sup*", touching and not re.match(r"[A-Za-z0-9(]", after)),
        "+": ("sup+", bool(re.search(r"[A-Za-z)]$", before) and re.match(r"[\s),.;]|$", after))),
        "~": ("sup~", bool(re.search(r"[A-Z]$|Theta$", before)) and after.startswith("(")),
        "'": ("sup'", touching),
        "<": ("<.", not touching and bool(re.match(r"\S", after))),
        ">": (".>", "<" in before and bool(re.search(r"\S$", before)) and not re.match(r"[A-Za-z0-9]", after)),
    }
    sign, found = apart.get(piece, (piece, False))
    return sign if found else piece
