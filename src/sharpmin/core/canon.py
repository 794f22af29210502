"""The papers that `docs/canon.md` speaks of beyond those of the functions and the statements; `sharpmin cite` prints them.

>>> {paper.key: paper.arxiv for paper in CANON}["xie2024sampa"]
'2410.10683'
"""

from ._papers_around import AROUND
from ._papers_steps import STEPS

CANON = (*STEPS, *AROUND)
"""Each once; its key is its name for `sharpmin cite`."""
