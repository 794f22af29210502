"""The papers in `docs/canon.md` that no function or statement cites; `sharpmin cite` prints them.

>>> {paper.key: paper.arxiv for paper in CANON}["xie2024sampa"]
'2410.10683'
"""

from ._papers_around import AROUND
from ._papers_steps import STEPS

CANON = (*STEPS, *AROUND)
"""Key for `sharpmin cite` -> paper."""
