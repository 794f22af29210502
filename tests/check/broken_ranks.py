"""SAMs with one fault each that only several processes can show, and one that is right there."""

import os
import sys
import time

import torch
import torch.distributed as dist
from right_sam import Right, WithModel


def part(t):
    """What this rank holds of a tensor."""
    return t.to_local() if hasattr(t, "to_local") else t


class Sharded(Right):
    """Right for sharded weights too: sums are reduced over the ranks, arithmetic runs on the parts."""

    def gradient(self, p):
        return part(super().gradient(p))

    def norm(self):
        parts = [self.entry_square(p) for g in self.param_groups for p in g["params"] if p.grad is not None and g["rho"] > 0]
        return sum(parts) ** 0.5

    def entry_square(self, p):
        square = part(p.grad).double().square().sum()
        if hasattr(p, "to_local"):
            dist.all_reduce(square)
        return float(square)

    def save(self, p):
        self.backup[p] = part(p.detach()).clone()

    def move(self, p, g, scale):
        super().move(part(p), g, scale)

    @torch.no_grad()
    def back(self):
        for p, was in self.backup.items():
            part(p).copy_(was)
        self.backup.clear()

    def descend(self):
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if self.agreed(self.bad or not all(torch.isfinite(part(g)).all() for g in grads), grads):
            self.base.step()

    def agreed(self, bad, grads):
        flag = torch.tensor(float(bad))
        if any(hasattr(g, "to_local") for g in grads):
            dist.all_reduce(flag)
        return flag == 0

    def tell(self):
        pass


class ShardedModel(Sharded, WithModel):
    """It also puts the buffers of the model back."""


class LocalNorm(Sharded):
    """A norm per shard."""

    def entry_square(self, p):
        return float(part(p.grad).double().square().sum())


class PlainTwice(Sharded):
    """Plain weights are added up over the ranks as shards are."""

    def entry_square(self, p):
        square = part(p.grad).double().square().sum()
        if any(hasattr(q, "to_local") for q in self.param_groups[0]["params"]):
            dist.all_reduce(square)
        return float(square)


class StepsAlone(Sharded):
    """Every rank looks at its own part of the gradient."""

    def agreed(self, bad, grads):
        return not bad


class SwapsParts(Sharded):
    """`p.data = old`, with a new tensor of the old values."""

    @torch.no_grad()
    def back(self):
        for p, was in self.backup.items():
            if hasattr(p, "to_local"):
                p.data = type(p).from_local(was, p.device_mesh, p.placements, shape=p.shape, stride=p.stride())
            else:
                p.copy_(was)
        self.backup.clear()


class Unsynced(ShardedModel):
    """The first pass runs under no_sync(), so that every rank climbs along its own gradient."""

    def evaluate(self, closure):
        if self.backup or not hasattr(self.model, "no_sync"):
            return super().evaluate(closure)
        with self.model.no_sync():
            return super().evaluate(closure)


class ReducesAgain(Sharded):
    """first_step() reduces gradients by itself, also where a perturbation per rank was asked for."""

    def first_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and not hasattr(p, "to_local"):
                    dist.all_reduce(p.grad)
                    p.grad.div_(dist.get_world_size())
        super().first_step(zero_grad)


class Subtracts(Sharded):
    """(w + e) - e: rounding differs where e does."""

    def __init__(self, params, base_optimizer, rho=0.05, **options):
        super().__init__(params, base_optimizer, rho, **options)
        self.e = {}

    def move(self, p, g, scale):
        self.e[p] = (g.double() * scale).to(p.dtype)
        part(p).add_(self.e[p])

    @torch.no_grad()
    def back(self):
        for p in self.backup:
            part(p).sub_(self.e.pop(p, torch.zeros(())))
        self.backup.clear()


class KeepsGradient(Sharded):
    """It restores by the first gradient, of which it kept a reference."""

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.kept = {p: (part(p.grad), self.norm()) for g in self.param_groups for p in g["params"] if p.grad is not None}
        super().first_step(zero_grad)

    @torch.no_grad()
    def back(self):
        if not self.backup:
            return
        for p, was in self.backup.items():
            g, norm = self.kept[p]
            exact = part(p).double() - g.double() * (self.param_groups[0]["rho"] / norm if norm else 0)
            part(p).copy_(exact if (exact - was.double()).abs().max() > 1e-2 else was)
        self.backup.clear()


class SkipsByLoss(Sharded):
    """A rank whose own loss is not finite does not step; the others do."""

    def evaluate(self, closure):
        loss = super().evaluate(closure)
        self.lost = getattr(self, "lost", False) or not torch.isfinite(loss).all()
        return loss

    def descend(self):
        lost, self.lost = self.lost, False
        if not lost:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        part(p.grad).nan_to_num_(0.0, 1.0, -1.0)
            self.base.step()


class OwnNoise(Sharded):
    """Every rank rounds w back at random, by its own generator."""

    @torch.no_grad()
    def descend(self):
        super().descend()
        for group in self.param_groups:
            for p in group["params"]:
                if p.dtype is torch.bfloat16 and group["lr"] > 0:  # full precision would show in every family
                    p.mul_(1 + 0.01 * torch.rand(()))


class KeepsMoving(ShardedModel):
    """The buffers stay where the second pass has left them."""

    def put(self, kept):
        pass


class LeavesEarly(Sharded):
    """The last rank ends in the middle of a step."""

    def first_step(self, zero_grad=False):
        if dist.is_initialized() and dist.get_rank() == 1:
            sys.stderr.write("out of luck\n")
            sys.stderr.flush()
            os._exit(3)
        super().first_step(zero_grad)


class Sleeps(Sharded):
    """The last rank comes to no end."""

    def first_step(self, zero_grad=False):
        if dist.is_initialized() and dist.get_rank() == 1:
            time.sleep(600)
        super().first_step(zero_grad)


class GivesUp(Sharded):
    """The last rank raises, and the first one waits for it in the second pass."""

    def first_step(self, zero_grad=False):
        if dist.is_initialized() and dist.get_rank() == 1:
            raise RuntimeError("no second pass here")
        super().first_step(zero_grad)


class Scoped(Unsynced):
    """It does by itself what scope "rank" asks for."""

    def __init__(self, params, base_optimizer, rho=0.05, model=None, scope="global", **options):
        super().__init__(params, base_optimizer, rho, model, **options)
        self.scope = scope

    def evaluate(self, closure):
        kind = Unsynced if self.scope == "rank" else ShardedModel
        return kind.evaluate(self, closure)


def no_start(rank, *rest):
    """In place of a rank."""
    raise RuntimeError("nobody is there")
