"""A copy of a run with another radius, and the numbers of its steps: both losses, both gradients, and e by parameter."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.rho import Rho, RhoSchedule
from sharpmin.optim._compare import GradientPair
from sharpmin.optim._numeric.sums import sum_of_squares
from sharpmin.optim._second_pass import moves_of
from sharpmin.optim.sam import SAM

from .._branches import Step, copied, loss_of
from .._run.sketch import Sketch, places

SKETCHES = tuple(Sketch(seed) for seed in range(4))
"""Numbers of a sketch; inner products of a, b have an error of about ||a|| ||b|| / 32, none below 256 entries."""


@dataclass
class StepNumbers:
    """The numbers of one step.

    Attributes:
        loss: at w.
        perturbed: the loss at w + e, if the step used a closure.
        cosine: of g and G.
        g, d: sketches of g and of D, shape (1024,), float64; None if the step took no second gradient.
        gg, dg: ||g||^2 and <D, g>.
        moved: ||e||^2 of each parameter, by name.
    """

    loss: float = math.nan
    perturbed: float | None = None
    cosine: float | None = None
    g: Tensor | None = None
    d: Tensor | None = None
    gg: float = math.nan
    dg: float = math.nan
    moved: dict[str, float] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether both gradients were taken and are finite."""
        return self.g is not None and self.d is not None and bool(torch.isfinite(self.g).all() and torch.isfinite(self.d).all())


class RadiusTrial:
    """A copy of a run at one radius.

    Args:
        model, opt, scheduler: the run; they are copied.
        rho: the radius; see `at_radius`.
        owner: the function to name in errors.
    """

    def __init__(self, model: nn.Module, opt: SAM, scheduler: Any, rho: float, owner: str):
        self._net, self._opt, self._scheduler = copied(model, opt, scheduler, owner)
        self._owner = owner
        at_radius(self._opt, rho)
        self._opt.telemetry = rho > 0
        self._whole = [p for group in self._opt.param_groups for p in group["params"]]
        names = {id(p): name for name, p in self._net.named_parameters()}
        self._names = {id(p): names.get(id(p), f"parameter {at}") for at, p in enumerate(self._whole)}
        self._starts = dict(zip(map(id, self._whole), places(self._whole), strict=True))

    def ahead(self) -> None:
        """Step the copy of the scheduler."""
        if self._scheduler is not None:
            self._scheduler.step()

    def take(self, step: Step, batch: Any, *, watched: bool = True) -> StepNumbers:
        """Take one step on a batch; if not `watched`, only the loss is recorded."""
        if not watched:
            return StepNumbers(loss_of(step(self._net, self._opt, batch), self._owner))
        seen = StepNumbers()

        def watcher(both: GradientPair) -> None:
            starts = [self._starts[id(p)] for p in both.parameters]
            found = [sketch.compare(both.clean, both.perturbed, starts=starts) for sketch in SKETCHES]
            half = len(SKETCHES) ** -0.5
            seen.g, seen.d = (torch.cat([one[at] for one in found]).cpu() * half / both.scale for at in (0, 1))
            seen.gg, seen.dg = (float(both.products[key]) for key in ("gg", "dg"))

        self._opt.watchers.append(watcher)
        try:
            with self._displacement(seen):
                seen.loss = loss_of(step(self._net, self._opt, batch), self._owner)
        finally:
            self._opt.watchers.remove(watcher)
        last = self._opt.last
        seen.cosine = last.cosine
        if seen.g is not None and last.perturbed_loss is not None:
            seen.perturbed = last.perturbed_loss
        return seen

    @contextmanager
    def _displacement(self, seen: StepNumbers) -> Iterator[None]:
        """Record ||e||^2 of each parameter during the second pass, while the weights are w + e."""
        state = self._opt._passes.state

        def note(p: Tensor) -> None:
            trip = state.trip
            if trip is not None and trip.held[0] and not seen.moved:
                moves = moves_of(*trip.held)
                seen.moved = {self._names[id(w)]: float(sum_of_squares([e])) for w, e in moves}

        hooks = [p.register_post_accumulate_grad_hook(torch.no_grad()(note)) for p in self._whole if p.requires_grad]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def at_radius(opt: SAM, rho: float) -> None:
    """Set the radius of every group: the largest becomes `rho`, and the others keep their ratio to it.

    A schedule keeps its shape, the radius inside of it is set; 0 stays 0, and where all are 0 all become `rho`.

    Raises:
        TypeError: for a schedule that has no `rho` to be set.

    >>> from sharpmin.core.rho import Cosine
    >>> w, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    >>> groups = [{"params": [w]}, {"params": [b], "rho": 0.1}]
    >>> opt = SAM(torch.optim.SGD(groups, lr=0.1), rho=Cosine(0.2, steps=100))
    >>> at_radius(opt, 1.0)
    >>> [group["rho"] for group in opt.param_groups]
    [Cosine(rho=1.0, steps=100), 0.5]
    """
    radii = [_inner(group["rho"]) for group in opt.param_groups]
    largest = max(radii, default=0.0)
    for group, own in zip(opt.param_groups, radii, strict=True):
        group["rho"] = _with(group["rho"], rho * (own / largest if largest else 1.0))


def _inner(rho: Rho) -> float:
    """The number rho inside a radius, which may be a schedule."""
    return _inner(_rho_of(rho)) if isinstance(rho, RhoSchedule) else float(rho)


def _with(rho: Rho, number: float) -> Rho:
    """The same radius with another number rho inside."""
    if not isinstance(rho, RhoSchedule):
        return number
    change: Callable[..., Any] = dataclasses.replace
    replaced: RhoSchedule = change(rho, rho=_with(_rho_of(rho), number))
    return replaced


def _rho_of(schedule: RhoSchedule) -> Rho:
    rho = getattr(schedule, "rho", None)
    if rho is None or not dataclasses.is_dataclass(schedule):
        raise TypeError(
            f"rho_range: {schedule!r} has no field rho that could be replaced by another radius; give a SAM with a number: "
            "opt.rho = 0.05"
        )
    inside: Rho = rho
    return inside
