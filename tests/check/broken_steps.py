"""SAMs whose step has one fault each, as they are found in the wild."""

import math

import torch
from right_sam import Right

import sharpmin as sm


class Unnormalized(Right):
    def scale(self, group, p, norm):
        return group["rho"]


class SingleNorm(Right):
    """The scale is rounded to float32."""

    def scale(self, group, p, norm):
        return float(torch.tensor(super().scale(group, p, norm), dtype=torch.float32))


class StepsAtPerturbed(Right):
    """The base steps at w + e, and the difference is taken back afterwards."""

    def second_step(self, zero_grad=False):
        self.ready = True
        self.step()
        if zero_grad:
            self.zero_grad()

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
    def second_step(self, zero_grad=False):
        self.backup = {p: was for p, was in self.backup.items() if p.grad is not None}
        super().second_step(zero_grad)


class KeyedBySecond(Right):
    """Every parameter with a second gradient is looked up in the backup."""

    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and group["rho"] > 0:
                    self.backup[p]
        super().second_step(zero_grad)


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
    def second_step(self, zero_grad=False):
        for p, e in self.e.items():
            p.sub_(e)
        super().second_step(zero_grad)


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
        super().perturb(scaler)
