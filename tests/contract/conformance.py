"""The table of `test_conformance.py`: every part with formulas of its own, in NumPy, and the cases made of them.

A geometry, ascent, descent or schedule that is exported and has no row here fails a test.
"""

import inspect
import itertools
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import sharpmin as sm

LR, RHO, ETA, THETA, WEIGHT, CLIP, C = 0.1, 0.3, 0.1, 0.4, 0.3, 0.2, 0.05


def checker(w):
    """Every other weight of a tensor."""
    return (torch.arange(w.numel()) % 2 == 0).view_as(w)


def flat(parts):
    return np.concatenate([np.ravel(part) for part in parts])


def even(parts):
    return flat([np.where(np.arange(part.size).reshape(part.shape) % 2 == 0, part, 0.0) for part in parts])


def stretch(w):
    return [np.abs(part) + ETA for part in w]


def sizes(w):
    return [np.full(part.shape, np.linalg.norm(part)) for part in w]


class GeometryRow(NamedTuple):
    part: sm.optim.Geometry
    dual_norm: object  # of a, at w: lists of arrays
    norm: object  # of e, at w


L2 = np.linalg.norm
GEOMETRIES = {
    "l2": GeometryRow(sm.L2(), lambda w, a: L2(flat(a)), lambda w, e: L2(flat(e))),
    "linf": GeometryRow(sm.LInf(), lambda w, a: np.abs(flat(a)).sum(), lambda w, e: np.abs(flat(e)).max()),
    "elementwise": GeometryRow(
        sm.Elementwise(ETA),
        lambda w, a: L2(flat(stretch(w)) * flat(a)),
        lambda w, e: L2(flat(e) / flat(stretch(w))),
    ),
    "layerwise": GeometryRow(
        sm.Layerwise(),
        lambda w, a: L2(flat(sizes(w)) * flat(a)),
        lambda w, e: L2(flat(e) / flat(sizes(w))),
    ),
    "masked": GeometryRow(sm.Masked(checker), lambda w, a: L2(even(a)), lambda w, e: L2(flat(e))),
}


def fishers(parts):
    """The larger half by magnitude, the first of equal ones."""
    line = flat(parts)
    return np.where(np.isin(np.arange(line.size), np.argsort(-np.abs(line), kind="stable")[: line.size // 2]), line, 0.0)


def singular(parts):
    return [np.linalg.svd(part.reshape(len(part), -1), compute_uv=False) for part in parts]


GEOMETRIES |= {
    "fisher": GeometryRow(sm.FisherMask(0.5), lambda w, a: L2(fishers(a)), lambda w, e: L2(flat(e))),
    "spectral": GeometryRow(
        sm.Spectral(), lambda w, a: sum(s.sum() for s in singular(a)), lambda w, e: max(s.max() for s in singular(e))
    ),
}


class Carried(list):
    """Vectors, with what their rule goes on from."""

    def __init__(self, vectors, on):
        super().__init__(vectors)
        self.on = on


def residual(g, before, m, last):
    means = [THETA * y + (1 - THETA) * x for x, y in zip(g, before.on if before else [0.0] * len(g), strict=True)]
    return Carried([x - WEIGHT * y for x, y in zip(g, means, strict=True)], means)


def drawn(g, before, m, last):
    step = before.on + 1 if before else 0
    draw = torch.Generator().manual_seed((step << 32) + 0x5A3D)
    return Carried([torch.randn(x.shape, generator=draw, dtype=torch.float64).numpy() for x in g], step)


class AscentRow(NamedTuple):
    part: sm.optim.Ascent
    vector: (
        object  # from g, the a before, minus the momentum of the base, and the last step's gradient: lists of arrays or None
    )
    passes: int = 2


ASCENTS = {
    "gradient": AscentRow(sm.Gradient(), lambda g, before, m, last: g),
    "ema": AscentRow(
        sm.Ema(THETA),
        lambda g, before, m, last: [THETA * x + (1 - THETA) * y for x, y in zip(g, before or [0.0] * len(g), strict=True)],
    ),
    "momentum": AscentRow(sm.Momentum(), lambda g, before, m, last: m, passes=1),
    "previous": AscentRow(sm.PreviousGradient(), lambda g, before, m, last: last, passes=1),
    "residual": AscentRow(sm.Residual(sigma=WEIGHT, decay=THETA), residual),
    "random": AscentRow(sm.RandomDirection(), drawn, passes=1),
}


class ScheduleRow(NamedTuple):
    part: object
    radius: object  # at step t, with n the dual norm


SCHEDULES = {
    "number": ScheduleRow(RHO, lambda t, n: RHO),
    "constant": ScheduleRow(sm.rho.Constant(RHO), lambda t, n: RHO),
    "cosine": ScheduleRow(sm.rho.Cosine(RHO, steps=3), lambda t, n: RHO * (1, 0.75, 0.25, 0)[t]),
    "inverse-sqrt": ScheduleRow(sm.rho.InverseSqrt(RHO), lambda t, n: RHO / np.sqrt(t + 1)),
    "every": ScheduleRow(sm.rho.Every(RHO, k=2), lambda t, n: RHO * (t % 2 == 0)),
    "tail": ScheduleRow(sm.rho.Tail(RHO, start=2), lambda t, n: RHO * (t >= 2)),
    "ramp": ScheduleRow(sm.rho.Ramp(RHO, start=1, stop=3), lambda t, n: RHO * (0, 0, 0.5, 1)[t]),
    "until": ScheduleRow(sm.rho.Until(RHO, stop=2), lambda t, n: RHO * (t < 2)),
    "follows-lr": ScheduleRow(sm.rho.ProportionalToLR(RHO, lr=4 * LR, power=0.5), lambda t, n: RHO / 2),
    "unnormalized": ScheduleRow(sm.rho.Unnormalized(C), lambda t, n: C * n),
    "capped": ScheduleRow(sm.rho.Capped(RHO, c=C), lambda t, n: min(RHO, C * n)),
    "gate": ScheduleRow(sm.rho.Gate(RHO, total=4, delta=0.0), lambda t, n: RHO),  # open: the mean is the last square
}


class DescentRow(NamedTuple):
    part: sm.optim.Descent
    combine: object  # of g and G, flat
    exact: bool = False


DESCENTS = {
    "perturbed": DescentRow(sm.Perturbed(), lambda g, big: big, exact=True),
    "mix": DescentRow(sm.Mix(WEIGHT), lambda g, big: (1 - WEIGHT) * g + WEIGHT * big),
    "clipped": DescentRow(
        sm.ClippedDifference(CLIP), lambda g, big: g + min(1, CLIP * L2(g) / max(L2(big - g), 1e-300)) * (big - g)
    ),
    "surrogate-gap": DescentRow(
        sm.SurrogateGap(WEIGHT), lambda g, big: big - WEIGHT * (g - (g @ big) / max(big @ big, 1e-300) * big)
    ),
    "renormalized": DescentRow(sm.Renormalized(), lambda g, big: L2(g) / max(L2(big), 1e-300) * big),
    "reuse": DescentRow(sm.ReuseOrthogonal(WEIGHT), lambda g, big: big, exact=True),
}

BASES = {
    "momentum": lambda ps: torch.optim.SGD(ps, lr=LR, momentum=0.9, weight_decay=1e-2),
    "sgd": lambda ps: torch.optim.SGD(ps, lr=LR),
    "adam": lambda ps: torch.optim.Adam(ps, lr=LR, amsgrad=True),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=LR),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=LR, momentum=0.5),
}
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


class Case(NamedTuple):
    geometry: str
    ascent: str
    schedule: str
    descent: str
    base: str
    dtype: str

    def __str__(self):
        return "-".join(name for name, usual in zip(self, USUAL, strict=True) if name != usual) or "usual"


RESTING = {name for name, row in SCHEDULES.items() if not all(row.radius(t, 1.0) for t in range(4))}
TABLES = (GEOMETRIES, ASCENTS, SCHEDULES, DESCENTS, BASES, DTYPES)
USUAL = Case(*(next(iter(table)) for table in TABLES))
SKIPPED = {
    "three unusual parts at once: pairs are enough": lambda c: sum(map(str.__ne__, c, USUAL)) > 2,
    "it climbs along a momentum that this base has not": lambda c: c.ascent == "momentum" and c.base == "sgd",
    "a gate decides by the gradient at w": lambda c: c.schedule == "gate" and ASCENTS[c.ascent].passes == 1,
    "there is no first gradient to combine": lambda c: ASCENTS[c.ascent].passes == 1 and c.descent != "perturbed",
    "the row does not know what is kept from other steps; test_variants_oracle.py does": lambda c: (
        (c.descent == "reuse" and c.schedule in RESTING)
        or (c.ascent == "random" and (c.schedule in ("every", "tail") or c.dtype != "float64"))
        or (c.geometry == "fisher" and c.base in ("adam", "adamw", "rmsprop"))
    ),
}
CASES = [c for c in itertools.starmap(Case, itertools.product(*TABLES)) if not any(skip(c) for skip in SKIPPED.values())]


def exported(module, kind):
    """The concrete subclasses of `kind` among the public names of a module."""
    things = [getattr(module, name) for name in module.__all__]
    return {t for t in things if isinstance(t, type) and issubclass(t, kind) and not inspect.isabstract(t)}


def missing(module, kind, table):
    """What is exported and has no row."""
    return {t.__name__ for t in exported(module, kind) - {type(row.part) for row in table.values()}}


@cache
def batch(time, dtype):
    """Inputs and targets."""
    return [torch.randn(shape, generator=torch.Generator().manual_seed(time)).to(dtype) for shape in ((4, 3), (4, 2))]


class Task:
    """A layer with two outputs and its SAM; batches by number, so that copies see the same ones."""

    def __init__(self, case, **options):
        draw = torch.Generator().manual_seed(5)
        self.dtype = DTYPES[case.dtype]
        self.weights = [nn.Parameter(torch.randn(shape, generator=draw).to(self.dtype)) for shape in ((3, 2), (2,))]
        self.opt = self.sam(case, **options)
        self.time, self.calls = 0, 0

    def sam(self, case, **options):
        parts = {
            "rho": SCHEDULES[case.schedule].part,
            "geometry": GEOMETRIES[case.geometry].part,
            "ascent": ASCENTS[case.ascent].part,
            "descent": DESCENTS[case.descent].part,
        }
        return sm.SAM(BASES[case.base](self.weights), **{**parts, **options})

    def loss(self):
        x, y = batch(self.time, self.dtype)
        return (torch.tanh(x @ self.weights[0] + self.weights[1]) - y).square().sum()

    def backward(self):
        self.calls += 1
        loss = self.loss()
        loss.backward()
        return loss

    def step(self, between=None):
        """By block, where it is needed or `between` is there, which is called at w + e, after the second pass."""
        self.opt.zero_grad()
        if self.opt.ascent.needs_clean:
            self.backward()
        if self.opt.needs_second_pass or between:
            with self.opt.perturbed():
                self.backward()
                if between:
                    between()
        self.opt.step()
        self.time += 1

    def by_closure(self):
        def closure():
            self.opt.zero_grad()
            return self.backward()

        self.opt.step(closure)
        self.time += 1

    def arrays(self, of=lambda p: p.detach()):
        return [of(p).double().numpy().copy() for p in self.weights]
