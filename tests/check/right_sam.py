"""A right SAM in a few lines, through the two doors that other implementations have."""

import copy
import math
import warnings
import weakref

import torch

PERTURBED = {}  # id of a weight: a weak reference to it, and its value at w, so that a lost wrapper can be made good
FORWARDED = ("train", "eval", "consolidate_state_dict")


class Right(torch.optim.Optimizer):
    """The two-step wrapper and the closure, right in every way that these doors allow."""

    def __init__(self, params, base_optimizer, rho=0.05, **options):
        self.base = base_optimizer(params, **options)
        self.take_over()
        self.backup, self.ready, self.bad = {}, False, False
        for group in self.base.param_groups:
            group.setdefault("rho", rho)
        self.default = rho
        super().__setstate__({})

    param_groups = property(lambda self: self.base.param_groups, lambda self, v: setattr(self.base, "param_groups", v))
    state = property(lambda self: self.base.state, lambda self, v: setattr(self.base, "state", v))
    defaults = property(lambda self: self.base.defaults, lambda self, v: setattr(self.base, "defaults", v))

    base_optimizer = property(lambda self: self.base)

    @property
    def rho(self):
        return self.default

    @rho.setter
    def rho(self, rho):
        self.default = rho
        for group in self.param_groups:
            group["rho"] = rho

    def __getattr__(self, name):
        if name in FORWARDED and "base" in vars(self):
            return getattr(self.base, name)
        raise AttributeError(name)

    def take_over(self):
        for group in self.base.param_groups:
            for p in group["params"]:
                weak, was = PERTURBED.pop(id(p), (None, None))
                if weak is not None and weak() is p:
                    p.detach().copy_(was)

    def __deepcopy__(self, memo):
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        base = type(self.base).__new__(type(self.base))
        memo[id(self.base)] = base
        for old, new in ((self.base, base), (self, twin)):
            kept = {k: v for k, v in vars(old).items() if k != "step" and not k.startswith(("_optimizer_", "_zero"))}
            vars(new).update(copy.deepcopy(kept, memo))
            torch.optim.Optimizer.__setstate__(new, {})
        return twin

    def zero_grad(self, set_to_none=True):
        self.base.zero_grad(set_to_none)

    def __getstate__(self):
        return {k: v for k, v in vars(self).items() if k != "step" and not k.startswith(("_optimizer_", "_zero"))}

    def add_param_group(self, group):
        self.base.add_param_group(group)
        self.param_groups[-1].setdefault("rho", self.default)

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, state):
        self.base.load_state_dict(state)

    def entries(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and group["rho"] > 0:
                    yield group, p, self.gradient(p)

    def gradient(self, p):
        return p.grad.to_dense() if p.grad.is_sparse else p.grad

    def norm(self):
        return math.sqrt(sum(self.square(g) for _, _, g in self.entries()))

    def square(self, g):
        return float(g.double().square().sum())

    def scale(self, group, p, norm):
        return group["rho"] / norm if 0 < norm < math.inf else 0.0

    def sign(self, group):
        return -1 if group.get("maximize") else 1

    def move(self, p, g, scale):
        p.copy_(p.double() + g.double() * scale)

    def save(self, p):
        self.backup[p] = p.detach().clone()
        PERTURBED[id(p)] = weakref.ref(p), self.backup[p]

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.back()
        norm = self.norm()
        self.bad = not math.isfinite(norm)
        for group, p, g in list(self.entries()):
            scale = self.scale(group, p, norm) * self.sign(group)
            self.save(p)
            if scale:
                self.move(p, g, scale)
        self.tell()
        if zero_grad:
            self.zero_grad()

    def tell(self):
        if any(p.dtype is torch.bfloat16 and p.numel() and torch.equal(p, was) for p, was in self.backup.items()):
            warnings.warn("bfloat16 has swallowed the perturbation", stacklevel=2)

    @torch.no_grad()
    def back(self):
        for p, was in self.backup.items():
            p.copy_(was)
            PERTURBED.pop(id(p), None)
        self.backup.clear()

    def second_step(self, zero_grad=False):
        self.back()
        self.ready = True
        self.step()
        if zero_grad:
            self.zero_grad()

    def evaluate(self, closure):
        with torch.enable_grad():
            return closure()

    def both(self, closure):
        before = torch.get_rng_state()
        loss = self.evaluate(closure)
        after = torch.get_rng_state()
        self.first_step()
        try:
            self.replay(before)
            self.evaluate(closure)
        finally:
            self.replay(after)
            self.back()
        return loss

    def replay(self, state):
        torch.set_rng_state(state)

    def step(self, closure=None):
        loss = None
        if closure is not None:
            loss = self.both(closure)
        else:
            self.demand_ready()
        self.ready = False
        self.descend()
        return loss

    def demand_ready(self):
        if not self.ready:
            raise RuntimeError("step() needs first_step() and second_step(), or a closure")

    def descend(self):
        grads = [self.gradient(p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not self.bad and all(torch.isfinite(g).all() for g in grads):
            self.base.step()


class WithModel(Right):
    """It also puts the buffers of the model back."""

    def __init__(self, params, base_optimizer, rho=0.05, model=None, **options):
        super().__init__(params, base_optimizer, rho, **options)
        self.model = model
        self.require_own()

    def both(self, closure):
        evaluations = []

        def counted():
            if evaluations:
                with torch.no_grad():
                    kept = {name: b.clone() for name, b in self.model.named_buffers()}
                    outside = self.outside()
                    try:
                        return self.second(closure)
                    finally:
                        self.put(kept)
                        for p, grad in outside:
                            p.grad = grad
            evaluations.append(1)
            return closure()

        return super().both(counted)

    def require_own(self):
        if len(self.strangers()) == len(list(self.model.parameters())):
            raise ValueError("the model holds none of the parameters")

    def strangers(self):
        own = {id(p) for group in self.param_groups for p in group["params"]}
        return [p for p in self.model.parameters() if id(p) not in own]

    def outside(self):
        return [(p, None if p.grad is None else p.grad.clone()) for p in self.strangers()]

    def second(self, closure):
        with torch.enable_grad():
            return closure()

    @torch.no_grad()
    def put(self, kept):
        for name, b in self.model.named_buffers():
            b.copy_(kept[name])


class Bases(torch.optim.Optimizer):
    """Several optimizers as one."""

    def __init__(self, several):
        self.several = several
        self.param_groups = [group for base in several for group in base.param_groups]
        self.state, self.defaults = {}, {}
        super().__setstate__({})

    def step(self, closure=None):
        for base in self.several:
            base.step()


class Several(Right):
    """It takes one base, or a list of them."""

    def __init__(self, base, rho=0.05):
        super().__init__(None, lambda _: Bases(base) if isinstance(base, list) else base, rho)
