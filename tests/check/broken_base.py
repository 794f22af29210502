"""SAMs with one fault each towards the base optimizer, its failures, and scripts that were written for other wrappers."""

from types import SimpleNamespace

import torch
from right_sam import Bases, Right, Several, WithModel

import sharpmin as sm


class KeepsFirst(Right):
    """Where nothing is perturbed, the first gradients are put back after the second pass."""

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.rested = [(p, p.grad.clone()) for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.rested = [] if self.norm() else self.rested
        super().first_step(zero_grad)

    def second_step(self, zero_grad=False):
        for p, grad in self.rested:
            p.grad = grad
        super().second_step(zero_grad)


class SumsAtRest(Right):
    """Where rho is 0, the two gradients are added up."""

    def first_step(self, zero_grad=False):
        super().first_step(zero_grad and any(group["rho"] for group in self.param_groups))


class ClaimsSteps(Right):
    """Every step is reported as taken."""

    last = SimpleNamespace(stepped=True)


class DropsSecond(Right):
    """Without a first gradient the second one is not looked at."""

    def first_step(self, zero_grad=False):
        self.had = any(p.grad is not None for group in self.param_groups for p in group["params"])
        super().first_step(zero_grad)

    def descend(self):
        if not self.had:
            self.zero_grad()
        super().descend()


class Stuck(Right):
    """It remembers a step that has begun, also after its end by an exception."""

    busy = False

    def descend(self):
        if self.busy:
            raise RuntimeError("the last step is not over")
        self.busy = True
        super().descend()
        self.busy = False


class StepsAfterError(Right):
    """After an exception in the base it tries again at w + e."""

    def second_step(self, zero_grad=False):
        backup = dict(self.backup)
        moved = {p: p.detach().clone() for p in backup}
        try:
            super().second_step(zero_grad)
        except Exception:
            for p, at in moved.items():
                p.detach().copy_(at)
            raise


class Forgetful(Right):
    """A new one knows nothing of an old one."""

    def take_over(self):
        pass


class TorchCopies(Right):
    """The base is copied as torch does it: groups and state only."""

    __deepcopy__ = None


class HidesBase(Right):
    """What the base has beyond torch's optimizers cannot be reached."""

    def __getattr__(self, name):
        raise AttributeError(name)


class OwnModes(Right):
    """It has the methods that frameworks look for, and they do nothing."""

    def train(self):
        pass

    def eval(self):
        pass


class OwnZero(Right):
    """It clears gradients by itself."""

    def zero_grad(self, set_to_none=True):
        torch.optim.Optimizer.zero_grad(self, set_to_none)


class BallEach(Several):
    """One norm a base."""

    def scale(self, group, p, norm):
        if isinstance(self.base, Bases):
            norm = sum(self.square(g) for other, _, g in self.entries() if other is group) ** 0.5
        return super().scale(group, p, norm)


class FixedRho(Right):
    """Its attribute rho says what the radius was."""

    rho = 0.5


class FixedGroups(Right):
    """It goes by the radius that a group had at first."""

    def scale(self, group, p, norm):
        group.setdefault("first", group["rho"])
        return super().scale({**group, "rho": self.default}, p, norm) if group["rho"] else 0.0


class AddsOutside(WithModel):
    """Parameters outside keep the sum of both passes."""

    def outside(self):
        return []


class AnyModel(WithModel):
    """It takes every model."""

    def require_own(self):
        pass


class OtherBase(Right):
    """What it shows as its base steps nothing."""

    @property
    def base_optimizer(self):
        return torch.optim.SGD([p for group in self.param_groups for p in group["params"]], lr=0.1)


class LeavesGradients(Right):
    """zero_grad=True of the second step is not looked at."""

    def second_step(self, zero_grad=False):
        super().second_step()


class Modes(sm.SAM):
    """It has the methods whatever the base is."""

    def train(self):
        pass
