"""A SAM and its loop by hand, both with a fuse at every place where somebody else's code runs in a step."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

import sharpmin as sm
from sharpmin.core.rho import InverseSqrt, RhoSchedule

RHO, LR = 0.05, 0.1


class Boom(BaseException):
    """Like KeyboardInterrupt, and nobody else's."""


class Fuse:
    """Counts the calls of every place in a step, and raises at one of them."""

    def __init__(self):
        self.at, self.raised = None, None
        self.begin()

    def begin(self):
        """A step begins; `order` will say how many passes had begun at each call."""
        self.calls, self.order = Counter(), {}

    def __call__(self, place):
        key = place, self.calls[place]
        self.calls[place] += 1
        self.order[key] = self.calls["forward"]
        if self.at == key:
            self.at, self.raised = None, Boom(place)
            raise self.raised

    def keep(self, place):
        """For a filter: what it lets through."""
        self(place)
        return True


class Net(nn.Module):
    """Everything that a pass can move: buffers, random numbers, gradients of several parameters."""

    def __init__(self, fuse):
        super().__init__()
        self.fuse = fuse
        torch.default_generator.manual_seed(3)
        self.one, self.norm, self.drop, self.two = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 3)

    def forward(self, x):
        hidden = self.drop(self.norm(self.one(x)))
        self.fuse("forward")
        hidden.register_hook(lambda _: self.fuse("backward"))
        return self.two(hidden)


def data(i):
    generator = torch.Generator().manual_seed(i)
    return torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator)


class Base(torch.optim.SGD):
    """Raises before it has changed anything, or after."""

    fuse: Fuse

    def step(self, closure=None):
        self.fuse("base before")
        super().step(closure)
        self.fuse("base after")


@dataclass(frozen=True)
class Radius(RhoSchedule):
    fuse: Fuse

    def __call__(self, info):
        self.fuse("rho")
        return InverseSqrt(RHO)(info)


@dataclass(frozen=True)
class Norm(sm.LInf):  # no sum decides how far, so that both can be held equal bit for bit
    fuse: Fuse | None = None

    def at(self, weights, vectors, context):
        self.fuse("geometry")
        return super().at(weights, vectors, context)


@dataclass(frozen=True)
class Up(sm.Ema):
    fuse: Fuse | None = None

    def update(self, weights, grads, state, context):
        self.fuse("ascent")
        return super().update(weights, grads, state, context)


@dataclass(frozen=True)
class Down(sm.Mix):
    fuse: Fuse | None = None

    def coefficients(self, *args):
        self.fuse("descent")
        return super().coefficients(*args)


class Scaler(torch.amp.GradScaler):
    """Raises before each of its calls does anything, or after."""

    def __init__(self, fuse):
        super().__init__("cpu", init_scale=1024.0)
        self.fuse = fuse

    def scale(self, outputs):
        if outputs.requires_grad:
            self.fuse("scale")
        return super().scale(outputs)


def _with_fuses(name):
    real = getattr(torch.amp.GradScaler, name)

    def call(self, *args):
        self.fuse(f"{name} before")
        done = real(self, *args)
        self.fuse(f"{name} after")
        return done

    setattr(Scaler, name, call)


for _name in ("unscale_", "step", "update"):
    _with_fuses(_name)


class Run:
    """The parts that both have."""

    def __init__(self):
        self.fuse = Fuse()
        self.net = Net(self.fuse)
        self.base = Base(self.net.parameters(), lr=LR, momentum=0.9)
        self.base.fuse = self.fuse

    def loss(self, i):
        x, y = data(i)
        value = nn.functional.cross_entropy(self.net(x), y)
        self.fuse("loss")
        return value

    def step(self, i):
        self.fuse.begin()
        torch.default_generator.manual_seed(100 + i)
        self.one_step(i)

    def fails(self, i, at):
        """One step with an exception; whether it came, and nobody has masked it."""
        self.fuse.at, self.fuse.raised = at, None
        try:
            self.step(i)
        except Boom as error:
            return error is self.fuse.raised
        return False

    def moved(self):
        """All that a step moves but the weights: buffers, random numbers, what the base remembers."""
        kept = [self.base.state[p].get("momentum_buffer") for p in self.net.parameters()]
        return [b.clone() for b in self.net.buffers()], torch.get_rng_state(), [None if m is None else m.clone() for m in kept]

    def weights(self):
        return [p.detach().clone() for p in self.net.parameters()]


class Ours(Run):
    """By `sharpmin`, through one of its doors."""

    def __init__(self, door, scaled):
        super().__init__()
        fuse = self.fuse
        self.opt = sm.SAM(
            self.base,
            rho=Radius(fuse),
            model=self.net,
            geometry=Norm(fuse=fuse),
            ascent=Up(0.5, fuse=fuse),
            descent=Down(0.5, fuse=fuse),
            buffers=lambda *_: fuse.keep("buffers"),
        )
        self.one_step, self.scaler = getattr(self, door), Scaler(fuse) if scaled else None
        sm.watch(self.opt, to=lambda row: fuse("writer"), every=1)
        for name, own in (("opt", self.opt), ("base", self.base)):
            own.register_step_pre_hook(lambda *_, name=name: fuse(f"{name} pre hook"))
            own.register_step_post_hook(lambda *_, name=name: fuse(f"{name} post hook"))

    def backward(self, i):
        value = self.loss(i)
        (value if self.scaler is None else self.scaler.scale(value)).backward()
        return value

    def first(self, i):
        self.opt.zero_grad()
        with self.opt.clean():
            self.backward(i)

    def finish(self):
        if self.scaler is None:
            self.opt.step()
        else:
            self.scaler.step(self.opt)
            self.scaler.update()

    def block(self, i):
        self.first(i)
        with self.opt.perturbed(self.scaler):
            self.backward(i)
        self.finish()

    def guarded(self, i):
        self.first(i)
        if self.opt.needs_second_pass:
            with self.opt.perturbed(self.scaler):
                self.backward(i)
        self.finish()

    def closure(self, i):
        def both():
            self.opt.zero_grad()
            return self.backward(i)

        self.opt.step(both)

    def raw(self, i):
        self.first(i)
        self.opt.perturb(self.scaler)
        self.backward(i)
        self.opt.restore()
        self.finish()

    def two_step(self, i):
        self.first(i)
        self.opt.first_step(zero_grad=True)
        self.backward(i)
        self.opt.second_step(zero_grad=True)


class ByHand(Run):
    """In plain torch. The stations on the way have names of their own: `start`, `between`, `done`."""

    def __init__(self):
        super().__init__()
        self.count, self.mean = 0, [torch.zeros_like(p) for p in self.net.parameters()]

    def gradient(self, i):
        for p in self.net.parameters():
            p.grad = None
        self.loss(i).backward()
        return [p.grad for p in self.net.parameters()]

    def one_step(self, i):
        self.fuse("start")
        start, ps = torch.get_rng_state(), list(self.net.parameters())
        first = self.gradient(i)
        self.fuse("between")
        mean = [0.5 * m + 0.5 * g for m, g in zip(self.mean, first, strict=True)]
        w, buffers, after = self.weights(), [b.clone() for b in self.net.buffers()], torch.get_rng_state()
        torch.set_rng_state(start)
        try:
            with torch.no_grad():
                for p, m in zip(ps, mean, strict=True):
                    p.add_(m.sign(), alpha=RHO / (self.count + 1) ** 0.5)
            second = self.gradient(i)
        finally:
            torch.set_rng_state(after)
            with torch.no_grad():
                for t, was in zip([*ps, *self.net.buffers()], [*w, *buffers], strict=True):
                    t.copy_(was)
        for p, g, big in zip(ps, first, second, strict=True):
            p.grad = 0.5 * g + 0.5 * big
        self.base.step()
        self.count, self.mean = self.count + 1, mean
        self.fuse("done")
