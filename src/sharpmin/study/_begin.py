"""A run of a study before its first step, for `toggle` and `rho_range`: model, SAM, step and batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from torch import Tensor, nn

from sharpmin.optim.sam import SAM

from ._run import Cell, StudyRun
from ._settings import Setting, setting


@dataclass(frozen=True)
class Beginning:
    """A run that has not taken a step.

    Attributes:
        model, opt: with the radius and learning rate in the middle of the grids.
        step: one of its steps, as `sharpmin.diagnostics.toggle` and `rho_range` take it.
        batches: the first ones that it would see.
        seconds: of one gradient evaluation on one core, about.
    """

    model: nn.Module
    opt: SAM
    step: Callable[[nn.Module, SAM, Any], Tensor]
    batches: list[tuple[Tensor, Tensor]] = field(repr=False)
    seconds: float


def begin(data: str, noise: float, seed: int, count: int) -> Beginning:
    """The run of constant SAM on a data set.

    Args:
        data: its name; see `setting`.
        noise: the share of training labels that are replaced by random ones, such as 0.4.
        seed: of weights, labels and batches.
        count: how many batches.

    Raises:
        ValueError: if there is no such study.
        MissingExtraError: if its data needs a package that is not installed.
    """
    s = setting(data)
    run = StudyRun(Cell(data, "sam", noise, seed, s.lr, s.rho))
    return Beginning(run.model, run.opt, _step_of(s), list(islice(run.batches(), count)), s.seconds)


def _step_of(setting: Setting) -> Callable[[nn.Module, SAM, Any], Tensor]:
    def step(model: nn.Module, opt: SAM, batch: Any) -> Tensor:
        x, y = batch

        def closure() -> Tensor:
            opt.zero_grad()
            loss = setting.loss(model, x, y)
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            return loss

        return opt.step(closure)

    return step
