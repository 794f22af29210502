"""A run of SAM by hand: what every step does to the weights, and who has a gradient after it."""

from dataclasses import dataclass

import numpy as np
import torch

from . import by_hand as hand
from . import loss
from .draw import Case

Grads = list[np.ndarray | None]
NOISE = {"float64": 1e-6, "float32": 1e-3, "mixed": 1e-3, "bfloat16": 1e-2}


class Unclear(Exception):
    """From here on the digits that are rounded away decide."""


@dataclass
class Found:
    """What a step came to: the weights after it, whether the base stepped, by how many passes, along which norm."""

    weights: list[np.ndarray]
    stepped: bool
    passes: int
    norm: float | None = None


class Oracle:
    """All that a run remembers."""

    def __init__(self, case: Case):
        self.case, self.w, self.steps, self.rate = case, loss.start(case), 0, 1.0
        self.base = [hand.Kept() for _ in self.w]
        self.memory = hand.Memory()
        self.rhos = [(g.rho, g.size) for g in case.groups]
        self.there = [False] * len(self.w)  # who has a gradient from before
        self.of = [i for i, g in enumerate(case.groups) for _ in g.weights]
        self.sign = [-1.0 if case.groups[i].maximize else 1.0 for i in self.of]
        self.lr = [g.lr for g in case.groups]

    def schedule(self, i: int, n: float) -> float:
        return hand.radius(*self.rhos[i], self.steps, self.rate * self.lr[i], n)

    def active(self, i: int) -> bool:
        """Whether the radius of the group can be positive at this step."""
        return self.schedule(i, 1.0) > 0

    def free(self, i: int, t: int) -> bool:
        return t >= self.case.weights[i].thaws

    def at(self, name: str, value: object, t: int) -> bool:
        return self.case[name] == value and self.case.at[name] == t

    def gradient(self, t: int, second: bool, w: list[np.ndarray] | None = None) -> Grads:
        """Of one pass, at w unless it is elsewhere."""
        own = loss.masks(self.case, t)[second and not self.case.one_pass]
        reached = [weight.passes[t][second] for weight in self.case.weights]
        made = loss.gradients(self.case, t, self.w if w is None else w, own, reached)
        out = [g if self.free(i, t) else None for i, g in enumerate(made)]
        if self.case["clear"].startswith("zeros") and not second:  # a second pass begins without gradients
            stale = [np.zeros_like(x) if was else None for x, was in zip(self.w, self.there, strict=True)]
            out = [zero if g is None else g for g, zero in zip(out, stale, strict=True)]
        if self.at("not finite", "second" if second else "first", t):
            return _spoiled(out)
        return out

    def climb(self, t: int, first: Grads, means: dict[int, np.ndarray]) -> tuple[list[np.ndarray], float]:
        """w + e, and the dual norm; the norm is 0 where nothing is to climb along."""
        which, along, draw = [], [], torch.Generator().manual_seed((self.steps << 32) + 0x5A3D)
        for i in (i for i in range(len(self.w)) if self.active(self.of[i])):
            if (a := self.vector(i, t, first[i], means, draw)) is not None:
                which.append(i)
                along.append(a)
        n, v = hand.steepest(self.case["geometry"], [self.w[i] for i in which], along)
        moved = list(self.w)
        for i, direction in zip(which, v, strict=True):
            if n:
                e = self.schedule(self.of[i], n) * direction
                moved[i] = loss.rounded(self.w[i] + e, self.case.weights[i].dtype)
        return moved, n

    def vector(self, i: int, t: int, g: np.ndarray | None, means: dict, draw: torch.Generator) -> np.ndarray | None:
        """What parameter i climbs along, if it does."""
        if self.case["ascent"] == "momentum":
            m = self.base[i].m
            return -m if m is not None and self.free(i, t) else None
        if self.case["ascent"] == "random":
            shape = self.w[i].shape
            return torch.randn(shape, generator=draw, dtype=torch.float64).numpy() if self.free(i, t) else None
        return None if g is None else hand.ascend(self.case["ascent"], i, self.sign[i] * g, means)

    def step(self, t: int) -> Found:
        """One step of the case."""
        only, any_active, means = self.case.one_pass, any(map(self.active, self.of)), dict(self.memory.means)
        first = [None] * len(self.w) if only else self.gradient(t, second=False)
        moved, n, finite = self.w, None, _finite(first)
        if any_active and finite:
            moved, n = self.climb(t, first, means)
        climbs = bool(n) and any(self.schedule(i, n) > 0 for i in set(self.of) if self.active(i))
        if not self.second_runs(climbs, any_active):
            return self.end(t, first, None, means, Found(self.w, finite, 1, n))
        if self.at("exception", "second pass", t):
            self.there = [False] * len(self.w)
            return Found(self.w, False, 1)
        used = self.gradient(t, True, moved)
        if not finite:
            return self.end(t, first, None, means, Found(self.w, False, 1))
        pair = first if climbs and not only else None
        return self.end(t, used, pair, means, Found(self.w, _finite(used), 1 if only else 2, n))

    def second_runs(self, climbs: bool, any_active: bool) -> bool:
        """Whether the pass inside the block, or its like, is made."""
        if self.case.one_pass:
            return True
        return {"closure": climbs, "guarded": any_active}.get(self.case["door"], True)

    def end(self, t: int, used: Grads, first: Grads | None, means: dict[int, np.ndarray], found: Found) -> Found:
        """The gradients that are left are stepped with, unless they are not finite."""
        self.there = [g is not None for g in used]
        if found.stepped:
            self.descend(first, used)
            self.memory.means, self.steps, found.weights = means, self.steps + 1, self.w
        return found

    def descend(self, first: Grads | None, used: Grads) -> None:
        """The step of the base, along what the descent makes of the gradients; `first` if there are two to combine."""
        which = [i for i, g in enumerate(used) if g is not None]
        d = self.direction(first, [used[i] for i in which], which)
        base, after = self.case["base"], list(self.w)
        o = hand.options(base, self.case["dtype"])
        for i, x in zip(which, d, strict=True):
            after[i] = hand.stepped(base, self.w[i], self.sign[i] * x, self.rate * self.lr[self.of[i]], self.base[i], o)
        self.w = after

    def direction(self, first: Grads | None, big: list[np.ndarray], which: list[int]) -> list[np.ndarray]:
        """d of these parameters."""
        memory, reuses = self.memory, self.case["descent"] == "reuse"
        if first is not None:
            g = [np.zeros_like(y) if first[i] is None else first[i] for i, y in zip(which, big, strict=True)]
            if reuses:
                c = hand.dot(big, g) / hand.dot(g, g)
                memory.kept = {i: y - c * x for i, x, y in zip(which, g, big, strict=True)}
                if hand.norm(list(memory.kept.values())) < NOISE[self.case["dtype"]] * hand.norm(big):
                    raise Unclear("both gradients have one direction: V is 0, and what is kept is rounding noise")
            return hand.combined(self.case["descent"], g, big)
        if not reuses:
            return big
        size = hand.norm([memory.kept[i] for i in which if i in memory.kept])
        share = hand.ALPHA * hand.norm(big) / size if size else 0.0
        return [x + share * memory.kept.get(i, 0.0) for i, x in zip(which, big, strict=True)]


def _spoiled(grads: Grads) -> Grads:
    """The first gradient with entries has nan."""
    which = next(i for i, g in enumerate(grads) if g is not None and g.size)
    return [np.full_like(g, np.nan) if i == which else g for i, g in enumerate(grads)]


def _finite(grads: Grads) -> bool:
    return all(np.isfinite(g).all() for g in grads if g is not None)
