"""SAMs with one fault each in what surrounds the step: checkpoints, groups, restore, storage, buffers, guards."""

import math

import torch
from right_sam import Right, WithModel

import sharpmin as sm
from sharpmin.optim._effects import guard


class Stateless(Right):
    def state_dict(self):
        return {**super().state_dict(), "state": {}}


class KeepsBackup(Right):
    kept = ()

    def save(self, p):
        super().save(p)
        self.kept = [*self.kept, self.backup[p]][-1:]

    def state_dict(self):
        return {**super().state_dict(), "old": self.kept}


class TorchState(Right):
    """Copies as torch's Optimizer does: groups and state only."""

    __deepcopy__ = None

    def __getstate__(self):
        return {"base": None, "backup": {}, "ready": False, "bad": False, "rho": self.rho}


class OwnGroups(Right):
    """A list of groups of its own."""

    def __init__(self, params, base_optimizer, rho=0.05, **options):
        super().__init__(params, base_optimizer, rho, **options)
        self.own = [dict(group) for group in self.base.param_groups]

    param_groups = property(lambda self: self.own, lambda self, v: setattr(self, "own", v))

    def add_param_group(self, group):
        self.base.add_param_group(group)
        self.own.append({"rho": self.rho, **self.base.param_groups[-1]})


class UnlinkedByLoad(Right):
    own = None

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.own = [dict(group) for group in self.base.param_groups]

    param_groups = property(lambda self: self.own or self.base.param_groups, lambda self, v: None)


class SkipsStep(Right):
    def second_step(self, zero_grad=False):
        self.back()
        self.descend()
        if zero_grad:
            self.zero_grad()


class NoAdd(Right):
    def add_param_group(self, group):
        raise KeyError("rho")


class CopiedList(Right):
    param_groups = property(lambda self: list(self.base.param_groups), lambda self, v: setattr(self.base, "param_groups", v))


class OneRho(Right):
    """group["rho"] is not looked at."""

    def entries(self):
        return ((g, p, self.gradient(p)) for g in self.param_groups for p in g["params"] if p.grad is not None and self.rho > 0)

    def scale(self, group, p, norm):
        return super().scale({"rho": self.rho}, p, norm)


class Diluted(OneRho):
    """A group with rho = 0 enters the norm."""

    def scale(self, group, p, norm):
        return Right.scale(self, group, p, norm)


class Subtracts(Right):
    """(w + e) - e, in the dtype of the weights."""

    def __init__(self, params, base_optimizer, rho=0.05, **options):
        super().__init__(params, base_optimizer, rho, **options)
        self.e = {}

    def move(self, p, g, scale):
        self.e[p] = (g.double() * scale).to(p.dtype)
        p.add_(self.e[p])

    @torch.no_grad()
    def back(self):
        for p in self.backup:
            p.sub_(self.e.pop(p, torch.zeros(())))
        self.backup.clear()


class NoFinally(Right):
    def both(self, closure):
        before = torch.get_rng_state()
        loss = self.evaluate(closure)
        after = torch.get_rng_state()
        self.backup.clear()
        self.first_step()
        torch.set_rng_state(before)
        self.evaluate(closure)
        torch.set_rng_state(after)
        self.back()
        return loss


class SwapsData(Right):
    def back(self):
        for p, was in self.backup.items():
            p.data = was
        self.backup.clear()


class CountsTwice(WithModel):
    """Weights under two names enter the norm twice."""

    def norm(self):
        named = [p for _, p in self.model.named_parameters(remove_duplicate=False) if p.grad is not None]
        return math.sqrt(sum(self.square(self.gradient(p)) for p in named)) if self.param_groups[0]["rho"] else 0.0


class ForgetsSparse(Right):
    def scale(self, group, p, norm):
        return 0.0 if p.grad.is_sparse else super().scale(group, p, norm)


class MomentumTrick(WithModel):
    """BatchNorm's momentum is 0 in the second pass."""

    def second(self, closure):
        norms = [m for m in self.model.modules() if isinstance(m, torch.nn.BatchNorm1d)]
        kept = [m.momentum for m in norms]
        for m in norms:
            m.momentum = 0.0
        loss = super().second(closure)
        for m, momentum in zip(norms, kept, strict=True):
            m.momentum = momentum
        return loss

    def put(self, kept):
        pass


class OtherMask(WithModel):
    """The second pass goes on where the first one ended."""

    def replay(self, state):
        pass


class Quiet(Right):
    def tell(self):
        pass


class Answers(sm.SAM):
    def state_dict(self):
        return self.base.state_dict()


class Unwatched(sm.SAM):
    def perturb(self, scaler=None):
        super().perturb(scaler)
        guard.unmark(self._passes.state)
