"""`toggle`: copies of a run go on with rho, without it, or with half of it, on the same batches.

The copies share nothing with the run, and the random generators are restored, so the run itself is unchanged bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from sharpmin.core.rho import RhoSchedule, Scalar, StepInfo, positive_integer
from sharpmin.core.text import block, brief
from sharpmin.optim.sam import SAM

from ._branches import Step, aside, copied, loss_of
from ._run.ahead import scheduler_of


@dataclass(frozen=True)
class Scaled(RhoSchedule):
    """`factor` times another radius, for a branch of a toggle.

    >>> Scaled(0.1, 0.5)(StepInfo(step=0))
    0.05
    """

    rho: Any
    factor: float

    def __call__(self, info: StepInfo) -> Scalar:
        """The scaled radius."""
        if self.factor == 0:
            return 0.0
        return self.factor * (self.rho(info) if isinstance(self.rho, RhoSchedule) else float(self.rho))


BRANCHES: Mapping[str, tuple[float, float]] = {"rho": (1, 1), "rho = 0": (0, 1), "rho / 2": (0.5, 1), "lr / 2": (1, 0.5)}
"""Name -> (factor of rho, factor of lr)."""


@dataclass(frozen=True)
class Difference:
    """How much lower the loss is than in the branch "rho", over the second half of the steps.

    Attributes:
        mean: positive where this branch has the lower loss.
        interval: 95 %, from block means of paired differences on the same batches.
        final: the difference of `evaluate` at the end, if it was given.
    """

    mean: float
    interval: tuple[float, float]
    final: float | None = None

    @classmethod
    def of(cls, unchanged: Sequence[float], other: Sequence[float], final: float | None = None) -> Difference:
        """Compute it from the losses of two branches on the same batches, at least 20 each."""
        half = len(unchanged) // 2
        falls = [a - b for a, b in zip(unchanged[half:], other[half:], strict=True)]
        mean, error = math.fsum(falls) / len(falls), _error(falls)
        return cls(mean, (mean - error, mean + error), final)

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class Toggle:
    """The result of `toggle`.

    Attributes:
        losses: for each branch the loss at w of every step.
        differences: for each branch but "rho" the difference from it.
    """

    losses: dict[str, list[float]]
    differences: dict[str, Difference]

    def __repr__(self) -> str:
        falls = ", ".join(f"{name}: {brief(d.mean)} lower" for name, d in self.differences.items())
        return f"<Toggle of {len(next(iter(self.losses.values())))} steps; {falls}>"

    def __str__(self) -> str:
        """The branches, each against the one that goes on with rho.

        >>> fall = Difference(0.03, (0.02, 0.04))
        >>> print(Toggle({"rho": [0.5] * 40}, {"rho = 0": fall, "lr / 2": Difference(0.01, (-0.01, 0.03))}))
        training loss of copies that took 40 steps, against the one that goes on with rho
          rho = 0  0.03 lower           95 %: 0.02 to 0.04
          lr / 2   no clear difference  95 %: -0.01 to 0.03 lower
        """
        rows = []
        for name, d in self.differences.items():
            what = "lower" if d.mean > 0 else "higher"
            if d.clear:
                low, high = sorted(abs(v) for v in d.interval)
                rows.append((name, f"{brief(abs(d.mean))} {what}", f"95 %: {brief((low, high))}"))
            else:
                rows.append((name, "no clear difference", f"95 %: {brief(d.interval)} lower"))
        steps = len(next(iter(self.losses.values())))
        return block(f"training loss of copies that took {steps} steps, against the one that goes on with rho", rows)


def toggle(
    model: nn.Module,
    opt: SAM,
    step: Step,
    batches: Sequence[Any],
    *,
    branches: Sequence[str] = ("rho = 0",),
    evaluate: Callable[[nn.Module], float] | None = None,
    scheduler: Any = None,
    every: int = 1,
) -> Toggle:
    """Let copies of a run go on with another rho or learning rate, on the same batches, and compare.

    Args:
        model: the model; it is copied together with `opt`, and neither changes.
        opt: its `sharpmin.SAM`.
        step: does what one step of the run does: `step(model, opt, batch)` with the copies; returns the loss at w.
        batches: the batches of the steps, in order; a quarter of the diagnosed window is enough.
        branches: any of "rho = 0", "rho / 2", "lr / 2"; "rho" is always run.
        evaluate: called with each branch's model at the end, such as the loss over the whole training set.
        scheduler: the learning rate scheduler of the run, of torch: every branch goes on with a copy of its own.
        every: after how many steps the run calls it: 1, or the steps of an epoch.

    Returns:
        The `Toggle`; `print` it.

    Raises:
        ValueError: if there are fewer than 20 batches, or a branch is unknown.
        TypeError: if `opt` is no `sharpmin.SAM`, or `step` returns no loss.

    >>> import torch
    >>> w = torch.nn.Linear(1, 1, bias=False).double()
    >>> opt = SAM(torch.optim.SGD(w.parameters(), lr=0.1), rho=0.5)
    >>> def step(model, opt, x):
    ...     def closure():
    ...         opt.zero_grad()
    ...         loss = (model(x) ** 2).mean()
    ...         loss.backward()
    ...         return loss
    ...     return opt.step(closure)
    >>> toggle(w, opt, step, [torch.ones(1, 1).double()] * 40).differences["rho = 0"].mean > 0
    True
    """
    unknown = [name for name in branches if name not in BRANCHES]
    if unknown:
        raise ValueError(f"toggle: branches={unknown!r}; there are {', '.join(map(repr, BRANCHES))}")
    if len(batches) < 20:
        raise ValueError(f"toggle: {len(batches)} batches; at least 20 are needed to tell a difference from noise")
    if not isinstance(opt, SAM):
        raise TypeError(f"toggle: opt is a {type(opt).__name__}; give the sharpmin.SAM of the run")
    inner = None if scheduler is None else scheduler_of(scheduler, "toggle")
    positive_integer(every, "every", "toggle")
    losses, finals = dict[str, list[float]](), dict[str, float | None]()
    for name in ["rho", *(name for name in branches if name != "rho")]:
        with aside(opt):
            net, branch, ahead = _branch(model, opt, inner, *BRANCHES[name])
            losses[name] = []
            for number, batch in enumerate(batches, 1):
                losses[name].append(loss_of(step(net, branch, batch), "toggle"))
                if number % every == 0:
                    ahead()
            finals[name] = None if evaluate is None else float(evaluate(net))
    return Toggle(losses, {name: _difference(losses, finals, name) for name in losses if name != "rho"})


def _branch(model: nn.Module, opt: SAM, scheduler: Any, rho: float, lr: float) -> tuple[nn.Module, SAM, Callable[[], None]]:
    """A joint copy of model, optimizer and scheduler with these factors of rho and lr."""
    net, branch, ahead = copied(model, opt, scheduler, "toggle")
    _scale(branch, lr)
    for group in branch.param_groups:
        if rho != 1:
            group["rho"] = Scaled(group["rho"], rho)

    def go_on() -> None:
        if ahead is not None:
            _scale(branch, 1 / lr)  # the scheduler sees its own rate: some compute the next one from it
            ahead.step()
            _scale(branch, lr)

    return net, branch, go_on


def _scale(opt: SAM, lr: float) -> None:
    for group in opt.param_groups:
        group["lr"] = group["lr"] * lr


def _difference(losses: Mapping[str, list[float]], finals: Mapping[str, float | None], name: str) -> Difference:
    last, own = finals["rho"], finals[name]
    return Difference.of(losses["rho"], losses[name], None if last is None or own is None else last - own)


def _error(values: Sequence[float], blocks: int = 10) -> float:
    """Half of a 95 % interval of the mean, from block means, since neighboring values are correlated."""
    size = len(values) // blocks
    means = [math.fsum(values[at : at + size]) / size for at in range(0, size * blocks, size)]
    middle = math.fsum(means) / blocks
    spread = math.sqrt(math.fsum((m - middle) ** 2 for m in means) / (blocks - 1))
    return 2.262 * spread / math.sqrt(blocks)  # Student's t with 9 degrees of freedom
