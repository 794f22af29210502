"""TRAP with a Lipschitz function: a bounded gradient does not help.

**Assumptions.** As for TRAP; f' is clipped at +-beta rho outside [-2 rho, 2 rho], so |f'| <= beta rho everywhere.

**Statement.** |f'(x_T)| -> (1 - 2 theta) beta rho from every start in I, as for TRAP.

**Where it is attained.** At its own instance.

**For training.** Gradient clipping by a constant does not remove the floor. (Clipping the difference
of the two gradients does.)

**Source.** Derived here; matches claim P3 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator

from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled
from .trap import bound, trapped


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """The check of `trapped` on the Lipschitz function."""
    return trapped(theorem, "trap-lipschitz", quick)


TRAP_LIPSCHITZ = register(
    Theorem(
        id="trap-lipschitz",
        title="SAM, nonconvex and Lipschitz: a trap with gradient (1 - 2 theta) beta rho",
        claims=("P3",),
        kind="lower",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"theta": 0.125, "beta": 2.0, "rho": 0.5},
        attained=True,
        places=(Place("exact", "nonconvex", "constant", all_the_way=False, rank=2),),
        mutants={"1 % lower": scaled(bound, 0.99), "1 % higher": scaled(bound, 1.01)},
    )
)
