"""A case by `sharpmin.SAM` and by hand, step by step side by side."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch

from . import loss
from .draw import STEPS, Case, draw
from .oracle import Found, Oracle, Unclear
from .run import Run, bits

NUMBERS = {"number", "zero"}
TOLERANCES = {"float64": 1e-8, "float32": 5e-4, "mixed": 5e-4, "bfloat16": 2e-2}
STATE = {"float64": 1e-8, "float32": 2e-3, "mixed": 2e-3, "bfloat16": 1e-1}


class Mismatch(AssertionError):
    """Where the run and the oracle part."""


@dataclass
class Beside:
    """The run and the oracle, brought through the same steps."""

    run: Run
    oracle: Oracle

    def change(self, t: int) -> None:
        """What happens between two steps."""
        case = self.run.case
        if case["change of rho"] and case.at["change of rho"] == t:
            new = 0.07 + 0.01 * t
            if case["change of rho"] == "opt.rho":
                self.run.opt.rho, self.oracle.rhos = new, [("number", new)] * len(case.groups)
            else:
                self.run.opt.param_groups[-1]["rho"], self.oracle.rhos[-1] = new, ("number", new)
        if case["restart"] and case.at["restart"] == t:
            self.run.restart()
            if case["restart"] == "checkpoint":  # a live schedule stays, a number is state
                pairs = zip(case.groups, self.oracle.rhos, strict=True)
                self.oracle.rhos = [own if {g.rho, own[0]} <= NUMBERS else (g.rho, g.size) for g, own in pairs]
            self.oracle.there = [p.grad is not None for p in self.run.ps]

    def step(self, t: int) -> None:
        """One of each, and the comparison."""
        self.change(t)
        self.run.t = t
        done, found = self.run.step(), self.oracle.step(t)
        if not done:
            self.oracle.there = [p.grad is not None for p in self.run.ps]
        self.compare(t, found)
        if self.run.case["dtype"] != "float64":  # rounding must not add up
            self.oracle.w = [loss.in_numpy(p) for p in self.run.ps]
        if done and self.run.scheduler is not None:
            self.run.scheduler.step()
            self.oracle.rate *= 0.9

    def compare(self, t: int, found: Found) -> None:
        case, last = self.run.case, self.run.opt.last
        if not self.run.returned:
            raise Mismatch(f"step {t}: the weights that the base steps from are not w, bit for bit")
        if found.told and (last.stepped, last.passes) != (found.stepped, found.passes):
            said = f"stepped {last.stepped} by {last.passes} passes, by hand {found.stepped} by {found.passes}"
            raise Mismatch(f"step {t}: {said}")
        for i, (p, w) in enumerate(zip(self.run.ps, found.weights, strict=True)):
            if not found.stepped and bits(p) != self.run.was[i]:
                raise Mismatch(f"step {t}, parameter {i}: it moved in a step that was not taken")
            apart = np.abs(loss.in_numpy(p) - w)
            if not (apart <= TOLERANCES[case["dtype"]] * (1 + np.abs(w))).all():
                raise Mismatch(f"step {t}, parameter {i} ({case.weights[i].kind}): {p.tolist()}, by hand {w.tolist()}")
        if self.run.model.seen.item() != self.oracle.seen:
            raise Mismatch(f"step {t}: buffers moved {self.run.model.seen} times, by hand {self.oracle.seen}")
        for i, p in enumerate(self.run.ps):
            for name, value in self.oracle.remembered(i).items():
                own = self.run.opt.base.state.get(p, {}).get(name)
                self.compare_state(t, f"parameter {i}, {name}", own, value)
        if case["dtype"] == "float64" and found.norm is not None and abs(last.dual_norm - found.norm) > 1e-8 * found.norm:
            raise Mismatch(f"step {t}: dual norm {last.dual_norm!r}, by hand {found.norm!r}")

    def compare_state(self, t: int, what: str, own: torch.Tensor | None, value: np.ndarray) -> None:
        """What the base remembers of a parameter, and what it is by hand."""
        tolerance = STATE[self.run.case["dtype"]]
        if own is not None and own.is_complex():
            own = torch.view_as_real(own).flatten()
        if own is None or not np.allclose(own.detach().to_dense().double().numpy(), value, rtol=tolerance, atol=tolerance):
            raise Mismatch(f"step {t}, {what}: {own}, by hand {value}")


def soak(seed: int) -> tuple[Case, str | None]:
    """The case of a seed, and where it parts from the oracle; one that becomes unclear ends there."""
    case, t = draw(seed), -1
    try:
        with warnings.catch_warnings(action="ignore"):  # steps are skipped on purpose, and schedulers run on
            both = Beside(Run(case), Oracle(case))
            for t in range(STEPS):
                both.step(t)
    except Unclear:
        return case, None
    except Mismatch as error:
        return case, str(error)
    except Exception as error:  # any is a finding
        return case, f"step {t}: {type(error).__name__}: {error}"
    return case, None
