"""SAMs with one fault each, as they are found in the wild."""

import math

import torch
from right_sam import Right, WithModel

import sharpmin as sm
from sharpmin.optim import _guard


class Unnormalised(Right):
    def scale(self, group, p, norm):
        return group["rho"]


class SingleNorm(Right):
    """The scale is rounded to float32."""

    def scale(self, group, p, norm):
        return float(torch.tensor(super().scale(group, p, norm), dtype=torch.float32))


class StepsAtPerturbed(Right):
    """The base steps at w + e, and the difference is taken back afterwards."""

    def second_step(self):
        self.ready = True
        self.step()

    @torch.no_grad()
    def descend(self):
        moves = {p: p - was for p, was in self.backup.items()}
        self.backup.clear()
        super().descend()
        for p, move in moves.items():
            p.sub_(move)


class IgnoresMaximize(Right):
    def sign(self, group):
        return 1


class NormPerTensor(Right):
    def scale(self, group, p, norm):
        return super().scale(group, p, math.sqrt(self.square(self.gradient(p))))


class LastMicroBatch(Right):
    """The ascent sees the gradient of the last backward only."""

    def __init__(self, params, base_optimizer, rho=0.05, **options):
        super().__init__(params, base_optimizer, rho, **options)
        self.so_far, self.last = {}, {}
        for p in self.param_groups[0]["params"]:
            p.register_post_accumulate_grad_hook(self.note)

    def note(self, p):
        if not p.grad.is_sparse:
            self.last[id(p)] = p.grad - self.so_far.get(id(p), 0)
            self.so_far[id(p)] = p.grad.clone()

    def zero_grad(self, set_to_none=True):
        self.base.zero_grad(set_to_none)
        self.so_far, self.last = {}, {}

    def gradient(self, p):
        last = self.last.get(id(p))
        return super().gradient(p) if self.ready or last is None or not torch.isfinite(p.grad).all() else last


class EveryOther(Right):
    """It climbs every second step."""

    def scale(self, group, p, norm):
        return super().scale(group, p, norm) * (group.get("count", 0) % 2 == 0)

    def descend(self):
        super().descend()
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1


class GradLater(Right):
    def evaluate(self, closure):
        return closure()


class PerturbedLoss(Right):
    def both(self, closure):
        self.evaluate(closure)
        before = torch.get_rng_state()
        self.first_step()
        try:
            return self.evaluate(closure)
        finally:
            torch.set_rng_state(before)
            self.back()


class SilentStep(Right):
    def demand_ready(self):
        pass


class LeastRho(Right):
    """rho = 0 is not quite 0."""

    def entries(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    yield group, p, self.gradient(p)

    def scale(self, group, p, norm):
        return max(group["rho"], 1e-3) / norm if 0 < norm < math.inf else 0.0


class EpsInHalf(Right):
    """The constant 1e-12, in the dtype of the weights."""

    def scale(self, group, p, norm):
        small = float(torch.tensor(norm + 1e-12).to(p.dtype)) if norm < 1 else norm
        return (group["rho"] / small if small else math.nan) if norm < math.inf else 0.0


class BackWithGradient(Right):
    """What has no gradient in the second pass stays perturbed."""

    @torch.no_grad()
    def second_step(self):
        self.backup = {p: was for p, was in self.backup.items() if p.grad is not None}
        super().second_step()


class KeyedBySecond(Right):
    """Every parameter with a second gradient is looked up in the backup."""

    def second_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and group["rho"] > 0:
                    self.backup[p]
        super().second_step()


class StackOfNorms(Right):
    def norm(self):
        torch.stack([g.double().norm() for _, _, g in self.entries()])
        return super().norm()


class NeverForgets(Right):
    """e is subtracted, and kept."""

    def __init__(self, params, base_optimizer, rho=0.05, **options):
        super().__init__(params, base_optimizer, rho, **options)
        self.e = {}

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        super().first_step(zero_grad)
        self.e |= {p: p - was for p, was in self.backup.items()}
        self.backup.clear()

    @torch.no_grad()
    def second_step(self):
        for p, e in self.e.items():
            p.sub_(e)
        super().second_step()


class NormInDtype(Right):
    def square(self, g):
        return float(g.norm()) ** 2


class NormByDtype(Right):
    def scale(self, group, p, norm):
        same = [g for _, q, g in self.entries() if q.dtype is p.dtype]
        return super().scale(group, p, math.sqrt(sum(map(self.square, same))))


class Unchecked(Right):
    """inf / inf."""

    def scale(self, group, p, norm):
        return group["rho"] / norm if norm > 0 else 0.0

    def first_step(self, zero_grad=False):
        super().first_step(zero_grad)
        self.bad = False

    def descend(self):
        self.base.step()


class LargestNumber(Right):
    """An inf in the second gradients becomes the largest number."""

    @torch.no_grad()
    def descend(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and not p.grad.is_sparse and not self.bad:
                    p.grad.nan_to_num_()
        super().descend()


class Masking(sm.SAM):
    """An inf in the first gradients becomes 0."""

    def perturb(self, scaler=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and not p.grad.is_sparse:
                    p.grad = torch.nan_to_num(p.grad, 0.0, 0.0, 0.0)
        super().perturb()


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
    def second_step(self):
        self.back()
        self.descend()


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
        _guard.release(self._cycle)
