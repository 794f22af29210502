"""The text of a statement as HTML: paragraphs, bold, code, and its formulas as MathML, also those within a sentence."""

from __future__ import annotations

import html
import re
import textwrap

from .formula import mathml
from .tokens import GREEK, NAMES

_NAMED = "|".join([*GREEK, "lr", "Lg", "grad", "sqrt"])
_STRONG = re.compile(rf"[_^=<>/|*]|(?<![A-Za-z])(?:{_NAMED})(?![A-Za-z])")
_WORD = re.compile(r"[A-Za-z]+\d*")
_GREEK = re.compile(r"(?<![A-Za-z_./])(" + "|".join(GREEK) + r")(?![A-Za-z_(=]|\.\w)")
_NUMBER = re.compile(r"[\d.]+[,.;:]?")
_BETWEEN = {"=", "<=", ">=", "<", ">", "->", "+", "-", "/", "*", "+-", "~", "in"}
_PROSE = {"mean", "max", "min", "sum", "inf", "log", "sign", "sup"}
"""Words that are mathematics only within a longer formula, or after a sign."""
_LONG = 36
"""Length in characters from which a formula may not fit into a narrow window, and gets a scroll bar."""
_ALLOWED = re.compile(r"[A-Za-z0-9_^=<>/|*+\-(){}\[\],.;:'~!]+")


def paragraphs(text: str) -> str:
    r"""HTML of a text whose formulas are set apart by indentation.

    >>> paragraphs("**Statement.** Then\n\n    x = 1\n")
    '<p><strong>Statement.</strong> Then</p>\n<math display="block"><mrow><mi>x</mi><mo>=</mo><mn>1</mn></mrow></math>'
    """
    return "\n".join(_block(block) for block in re.split(r"\n\s*\n", text.strip("\n")) if block.strip())


def _block(block: str) -> str:
    if not block.startswith("    "):
        return f"<p>{sentence(block)}</p>"
    lines: list[str] = []
    waiting = ""
    for line in textwrap.dedent(block).splitlines():
        waiting = f"{waiting} {line.strip()}".strip()
        try:
            lines.append(mathml(waiting, display=True))
        except ValueError:
            continue  # a bracket is open: the formula goes on in the next line
        waiting = ""
    if waiting:
        lines.append(f"<pre>{html.escape(waiting)}</pre>")
    return "\n".join(lines)


def sentence(text: str) -> str:
    """Text within a paragraph: code, bold, links to arXiv, formulas.

    >>> sentence("rho is `a_b`")
    '<math><mi>ρ</mi></math> is <code>a_b</code>'
    """
    parts = re.split(r"(`+[^`]+`+|\*\*.+?\*\*)", " ".join(text.split()))
    return "".join(_special(part) if i % 2 else _plain(part) for i, part in enumerate(parts))


def _special(part: str) -> str:
    if part.startswith("`"):
        return f"<code>{html.escape(part.strip('`'), quote=False)}</code>"
    return f"<strong>{sentence(part.strip('*'))}</strong>"


def _plain(text: str) -> str:
    """Runs of words that are mathematics become formulas."""
    out: list[str] = []
    run: list[str] = []
    words = text.split(" ")
    for at, word in enumerate(words):
        after = words[at + 1] if at + 1 < len(words) else ""
        last = run[-1] if run else ""
        if run and (_ends(run) or (_NUMBER.fullmatch(word) and last not in _BETWEEN)):
            out.append(_run(run))
            run = []
            last = ""
        if _mathematical(word, last, after):
            run.append(word)
        else:
            out += [_run(run)] if run else []
            out.append(_words(word))
            run = []
    return " ".join([*out, _run(run)] if run else out)


def _ends(run: list[str]) -> bool:
    """Whether a punctuation mark outside all brackets ends the formula."""
    text = "".join(run)
    depth = sum(text.count(c) for c in "([{") - sum(text.count(c) for c in ")]}")
    return depth <= 0 and text[-1] in ",;:."


def _mathematical(word: str, last: str, after: str) -> bool:
    bare = word.strip(",.;:")
    if bare == "in":
        return last != "" and after[:1] in ("[", "(", "{")
    if not bare or not _ALLOWED.fullmatch(word) or bare in ("a", "A", "I", "-") or re.search(r"\w-$", bare):
        return bool(bare == "-" and last)
    if re.fullmatch(r"\(?[A-Z]\d+[a-z']*\)?", bare):  # the name of a statement, as a rule
        return after in _BETWEEN
    if re.search(r"[a-z]\d[a-z]", bare):  # so is this, such as t2k
        return False
    return all(_quantity(found, bare, last) for found in _WORD.finditer(bare))


def _quantity(found: re.Match[str], word: str, last: str) -> bool:
    if found.start() and word[found.start() - 1] == "_":
        return True
    letters = found[0].rstrip("0123456789")
    if letters in _PROSE:
        return len(word) > len(letters) + 1 or last in _BETWEEN
    if len(letters) == 1:
        return letters.islower() or letters == found[0]
    return letters in GREEK or letters in NAMES


def _run(run: list[str]) -> str:
    """A formula, with the signs, the punctuation and the brackets around it left outside."""
    first, last = 0, len(run)
    while first < last and run[first] in _BETWEEN - {"-"}:
        first += 1
    while last > first and run[last - 1] in _BETWEEN:
        last -= 1
    bare = " ".join(run[first:last])
    ending = re.search(r"[,.;:]*$", bare)
    tail = ending[0] if ending else ""
    parts = [_words(" ".join(run[:first])), _set(bare.removesuffix(tail)) + tail, _words(" ".join(run[last:]))]
    return " ".join(part for part in parts if part)


def _set(bare: str) -> str:
    if not (_STRONG.search(bare) or re.search(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", bare)) or not re.search(
        r"[A-Za-z0-9]", bare
    ):
        return _words(bare)
    for left, right in ((0, 0), (1, 0), (0, 1), (1, 1)):
        if (left and bare[0] != "(") or (right and bare[-1] != ")"):
            continue
        try:
            formula = mathml(bare[left : len(bare) - right])
            formula = f'<span class="long">{formula}</span>' if len(bare) > _LONG else formula
            return bare[:left] + formula + bare[len(bare) - right :]
        except ValueError:
            continue
    return _words(bare)


def _words(text: str) -> str:
    safe = _GREEK.sub(lambda m: GREEK[m[1]], html.escape(text, quote=False))
    safe = re.sub(r"docs/(\w+)\.md", r'<a href="\1.html">docs/\1.md</a>', safe)
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', safe)
