"""`OnHold`: halve rho whenever the verdict is that rho keeps the training loss too high."""

from __future__ import annotations

from typing import Any

from sharpmin.core.rho import RhoSchedule, finite, positive_integer
from sharpmin.optim.sam import SAM

from ._run.probe import Probe
from ._run.state import State
from ._run.stretch import LEAST_BLOCKS
from ._run.verdict import Diagnosis, diagnose

_HOLDS = (State.HOLDS, State.RHO_FLOOR, State.TWO_CYCLE, State.TRAP)


class OnHold:
    """Multiplies rho by a factor when it keeps the training loss too high; call `step()` after every epoch.

    A tool for the training objective, not for accuracy: under label noise a run that converges memorizes it
    (docs/plateau.md). After a change it waits until the window has enough blocks at the new rho. It goes into
    checkpoints by `state_dict`.

    Args:
        opt: a `sharpmin.SAM` whose rho is a number in every group.
        probe: the probe of `opt`.
        factor: by which rho is multiplied, in (0, 1).
        blocks: the blocks of the window, at least 5.

    Raises:
        TypeError: if `opt` is no sharpmin.SAM, or another argument is no number.
        ValueError: if rho is a schedule, or a number is out of range.
    """

    def __init__(self, opt: SAM, probe: Probe, *, factor: float = 0.5, blocks: int = 10):
        if not isinstance(opt, SAM):
            raise TypeError(f"OnHold: opt is a {type(opt).__name__}; give the sharpmin.SAM whose rho is to be halved")
        if any(isinstance(group["rho"], RhoSchedule) for group in opt.param_groups):
            raise ValueError("OnHold: rho is a schedule, which OnHold cannot halve; give SAM a number, such as rho=0.05")
        if not 0 < finite(factor, "factor", "OnHold") < 1:
            raise ValueError(f"OnHold: factor={factor!r}; factor must be in (0, 1)")
        if positive_integer(blocks, "blocks", "OnHold") < LEAST_BLOCKS:
            raise ValueError(f"OnHold: blocks={blocks!r}; a window has at least {LEAST_BLOCKS}")
        self.opt, self.probe, self.factor, self.blocks = opt, probe, factor, blocks
        self.changes = 0
        self._seen = probe.step

    def __repr__(self) -> str:
        return f"OnHold(factor={self.factor}, blocks={self.blocks}, changes={self.changes})"

    def step(self) -> Diagnosis | None:
        """Diagnose the run and halve rho if it holds the loss up; returns the diagnosis, or None if the window is too short."""
        since = [row for row in self.probe.log.blocks if row["first"] >= self._seen]
        if len(since) < self.blocks:
            return None
        try:
            found = diagnose(self.probe, blocks=self.blocks)
        except ValueError:  # the run has diverged
            return None
        if found.state in _HOLDS:
            for group in self.opt.param_groups:
                group["rho"] = group["rho"] * self.factor
            self.changes += 1
            self._seen = self.probe.step
        return found

    def state_dict(self) -> dict[str, Any]:
        """The number of changes; rho itself is in the optimizer's state dict."""
        return {"changes": self.changes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the number of changes; a new window starts."""
        self.changes, self._seen = int(state["changes"]), self.probe.step
