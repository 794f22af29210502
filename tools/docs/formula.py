"""A formula in plain text, such as `beta^2 rho_t/(2 mu)`, as MathML: the browser sets it, nothing is fetched.

What the statements write is read as they mean it: `a b` is a product, `f(x)` without a space a value, `a b/c d` is (a b/c) d.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field

from .tokens import CLOSING, GREEK, OPENING, Token, tokens

_OPERATORS = {
    "<=": "≤", ">=": "≥", "->": "→", "==": "=", "+-": "±", "-": "−", "*": "∗", "...": "…", "~": "~", "<": "&lt;", ">": "&gt;",
}  # fmt: skip
_BREAKS = {"<=", ">=", "->", "==", "=", "+-", "+", "-", "<", ">", ",", ";", ":", ".", "...", "text", "&", "!=", "~", "/", "∈"}
"""What ends the product that stands before a `/`."""
_FUNCTIONS = {"exp", "log", "max", "min", "sup", "inf", "cos", "sin", "tanh", "sign", "cosh"}
_BIG = {"max", "min", "sup", "mean", "sum", "lim"}
_SUPERSCRIPTS = {"sup*": "∗", "sup+": "+", "sup'": "′"}
_SIGNS = {"grad": "∇", "E": "𝔼", "sum": "∑", "inf": "∞", "prod": "∏"}


@dataclass
class _Item:
    """Something that can have scripts, and be a numerator."""

    markup: str
    factor: bool = True
    inner: str = field(default="")
    """The markup of a group without its brackets."""


def mathml(text: str, *, display: bool = False) -> str:
    """One formula, on a line of its own with fractions, or within a sentence with slashes.

    Raises:
        ValueError: if a bracket has no partner.

    >>> mathml("rho^2/2")
    '<math><msup><mi>ρ</mi><mn>2</mn></msup><mo lspace="0.1em" rspace="0.1em">/</mo><mn>2</mn></math>'
    >>> mathml("rho/(k)", display=True).removeprefix('<math display="block"><mrow>').removesuffix("</mrow></math>")
    '<mfrac><mrow><mi>ρ</mi></mrow><mrow><mi>k</mi></mrow></mfrac>'
    """
    row = _Reader(tokens(text), stacked=display).row("")
    return f'<math display="block"><mrow>{row}</mrow></math>' if display else f"<math>{row}</math>"


class _Reader:
    """Reads tokens from left to right."""

    def __init__(self, read: list[Token], *, stacked: bool):
        self.tokens = read
        self.stacked = stacked
        self.at = 0

    def next(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def row(self, closing: str) -> str:
        """Items up to the closing bracket, which is taken; fractions are made on the way."""
        items: list[_Item] = []
        while (token := self.next()) is not None:
            if closing and token.text in CLOSING[closing]:
                return _joined(items)
            if token.text == "/" and self.stacked and items and items[-1].factor:
                self.at += 1
                _divide(items, self.item())
            else:
                items.append(self.item())
        if closing:
            raise ValueError(f"no {CLOSING[closing]} for {closing!r}")
        return _joined(items)

    def item(self) -> _Item:
        """An atom with its indices and powers."""
        token = self.next()
        if token is None:
            raise ValueError("the formula ends too early")
        self.at += 1
        base = self._atom(token)
        low = high = ""
        while (mark := self.next()) is not None and mark.text in ("_", "^", "sup*", "sup+", "sup'", "sup~"):
            self.at += 1
            if mark.text == "_":
                low = self._script()
            elif mark.text == "sup~":
                base.markup = f"<mover>{base.markup}<mo>~</mo></mover>"
            else:
                high += self._script() if mark.text == "^" else f"<mi>{_SUPERSCRIPTS[mark.text]}</mi>"
        base.markup = _scripted(base.markup, low, high, token.text in _BIG)
        return self._applied(base, token)

    def _applied(self, base: _Item, token: Token) -> _Item:
        """The item with a bracket that follows it without a space: the value of a function."""
        after = self.next()
        if token.kind == "word" and after is not None and after.text in ("(", "[", "{") and not after.spaced:
            bracket = self.item()
            base.markup = f"<mrow>{base.markup}{bracket.markup}</mrow>"
        return base

    def _script(self) -> str:
        token = self.next()
        if token is None:
            raise ValueError("an index or a power is missing")
        self.at += 1
        if token.text in ("{", "("):
            return f"<mrow>{self._group(token.text)[1]}</mrow>"
        if token.text == "-":
            return f"<mrow><mo>−</mo>{self._script()}</mrow>"
        return f"<mtext>{token.text}</mtext>" if token.kind == "text" else self._atom(token).markup

    def _group(self, opening: str) -> tuple[str, str]:
        """The closing bracket of a group, and the markup of what is inside."""
        inner = self.row(opening)
        closing = self.tokens[self.at].text
        self.at += 1
        return closing, inner

    def _atom(self, token: Token) -> _Item:
        text = token.text
        if token.kind == "number":
            return _Item(f"<mn>{text}</mn>")
        if token.kind == "text":
            return _Item(f"<mtext>&nbsp;{html.escape(text)}&nbsp;</mtext>", factor=False)
        if token.kind == "gap":
            return _Item('<mspace width="2em"></mspace>', factor=False)
        if token.kind == "word":
            return self._word(text)
        if text in OPENING:
            closing, inner = self._group(text)
            return _Item(_fenced(text, inner, closing), inner=inner if text == "(" and closing == ")" else "")
        if text in CLOSING.values() or text in (")", "]", "}"):
            raise ValueError(f"{text!r} closes nothing")
        close = ' lspace="0.1em" rspace="0.1em"' if text == "/" else ""
        return _Item(f"<mo{close}>{_OPERATORS.get(text, html.escape(text))}</mo>", factor=text not in _BREAKS)

    def _word(self, text: str) -> _Item:
        after = self.next()
        if text == "sqrt" and after is not None and after.text == "(":
            self.at += 1
            return _Item(f"<msqrt>{self._group('(')[1]}</msqrt>")
        if text in _FUNCTIONS and not (text == "inf" and not (after and after.text in ("(", "{", "_"))):
            return _Item(f'<mi mathvariant="normal">{text}</mi>')
        if text in _SIGNS:
            return _Item(f"<mo>{_SIGNS[text]}</mo>" if text in ("grad", "sum", "prod") else f"<mi>{_SIGNS[text]}</mi>")
        letters = text.rstrip("0123456789")
        name = f"<mi>{GREEK.get(letters, letters)}</mi>"
        return _Item(f"<msub>{name}<mn>{text[len(letters) :]}</mn></msub>" if letters != text else name)


def _joined(items: list[_Item]) -> str:
    """Items side by side, with a thin space between two factors."""
    out: list[str] = []
    for at, item in enumerate(items):
        if at and item.factor and items[at - 1].factor:
            out.append('<mspace width="0.15em"></mspace>')
        out.append(item.markup)
    return "".join(out)


def _scripted(base: str, low: str, high: str, big: bool) -> str:
    if low and high:
        return f"<msubsup>{base}{low}<mrow>{high}</mrow></msubsup>"
    if low:
        tag = "munder" if big else "msub"
        return f"<{tag}>{base}{low}</{tag}>"
    return f"<msup>{base}{high}</msup>" if high else base


def _fenced(opening: str, inner: str, closing: str) -> str:
    names = {"<.": "⟨", ".>": "⟩", "||": "‖"}
    left, right = names.get(opening, opening), names.get(closing, closing)
    tall = str("<mfrac>" in inner).lower()
    fence = f'<mo fence="true" stretchy="{tall}" lspace="0" rspace="0">{{}}</mo>'
    return f"<mrow>{fence.format(left)}{inner}{fence.format(right)}</mrow>"


def _divide(items: list[_Item], below: _Item) -> None:
    """The product at the end of the row becomes the numerator."""
    first = len(items)
    while first and items[first - 1].factor:
        first -= 1
    above = items[first:]
    over = above[0].inner if len(above) == 1 and above[0].inner else _joined(above)
    del items[first:]
    items.append(_Item(f"<mfrac><mrow>{over}</mrow><mrow>{below.inner or below.markup}</mrow></mfrac>"))
