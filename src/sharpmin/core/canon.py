"""The papers that `docs/canon.md` speaks of beyond those of the functions and the statements; `sharpmin cite` prints them."""

from ._papers_around import AROUND
from ._papers_steps import STEPS

CANON = (*STEPS, *AROUND)
"""Each once, by the key that is its name for `sharpmin cite`.

>>> {paper.key: paper.arxiv for paper in CANON}["xie2024sampa"]
'2410.10683'
"""
