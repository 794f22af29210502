"""A run of SAM by hand: what every step does to the weights, and who has a gradient after it."""

from dataclasses import dataclass

import numpy as np
import torch

from . import by_hand as hand
from . import loss, norms
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
    told: bool = True  # whether `opt.last` has been told of it


class Oracle:
    """All that a run remembers."""

    def __init__(self, case: Case):
        self.case, self.w, self.steps, self.rate = case, loss.start(case), 0, 1.0
        self.base = [hand.Kept() for _ in self.w]
        self.memory = hand.Memory()
        self.rhos = [(g.rho, g.size) for g in case.groups]
        self.seen = 0  # passes whose buffers count
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

    def gradient(self, t: int, micros: range, second: bool, w: list[np.ndarray] | None = None) -> Grads:
        """Of one pass over these micro-batches, at w unless it is elsewhere."""
        self.seen += 1
        own = loss.masks(self.case, t)[second and not self.case.one_pass]
        reached = [weight.passes[t][second] for weight in self.case.weights]
        made = loss.gradients(self.case, t, self.w if w is None else w, own, reached, micros)
        out = [g if self.free(i, t) else None for i, g in enumerate(made)]
        if not second and not self.case.apart:  # a second pass begins without gradients
            out = _sum(self.stale(), out)
        if self.case.comes("not finite", "second" if second else "first", t, micros):
            return self.spoiled(out)
        return out

    def spoiled(self, grads: Grads) -> Grads:
        """The first dense gradient with entries has nan."""
        kinds = [weight.kind for weight in self.case.weights]
        which = next(i for i, g in enumerate(grads) if g is not None and g.size and kinds[i] != "sparse")
        return [np.full_like(g, np.nan) if i == which else g for i, g in enumerate(grads)]

    def stale(self) -> Grads:
        """The zeros that clearing has left."""
        zeros = self.case["clear"].startswith("zeros")
        return [np.zeros_like(x) if was and zeros else None for x, was in zip(self.w, self.there, strict=True)]

    def climb(self, t: int, first: Grads, means: dict[int, np.ndarray]) -> tuple[list[np.ndarray], float]:
        """w + e, and the dual norm; the norm is 0 where nothing is to climb along."""
        which, along, draw = [], [], torch.Generator().manual_seed((self.steps << 32) + 0x5A3D)
        for i in (i for i in range(len(self.w)) if self.active(self.of[i])):
            if (a := self.vector(i, t, first[i], means, draw)) is not None:
                which.append(i)
                along.append(a)
        n, v = self.steepest(which, along)
        moved = list(self.w)
        for i, direction in zip(which, v, strict=True):
            if n:
                e = self.schedule(self.of[i], n) * direction
                moved[i] = loss.rounded(self.w[i] + e, self.case.weights[i].dtype)
        return moved, n

    def steepest(self, which: list[int], along: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        """The dual norm and the unit vector; here a Fisher mask is made of what the base remembers, group by group."""
        geometry, noise = self.case["geometry"], NOISE[self.case["dtype"]]
        if geometry.startswith("spectral") and any(norms.polar(x)[2] < 1e-5 for x in along):
            raise Unclear("a singular value is nearly 0, and so is its direction rounding noise")
        if geometry == "fisher":
            for group in dict.fromkeys(self.of[i] for i in which):
                places = [k for k, i in enumerate(which) if self.of[i] == group]
                masks, gap = norms.fisher_masks([self.root(which[k], along[k]) for k in places])
                if 0 < gap < noise:
                    raise Unclear("two entries around the cut of the mask have the same Fisher information but for rounding")
                for k, mask in zip(places, masks, strict=True):
                    along[k] = along[k] * mask
        return norms.steepest(geometry, [self.w[i] for i in which], along)

    def root(self, i: int, a: np.ndarray) -> np.ndarray:
        """Of the second moment that the base keeps of parameter i, or else of a^2."""
        keeps = hand.BASES[self.case["base"]][0] in ("Adam", "AdamW", "NAdam", "RMSprop") and self.base[i].t > 0
        return abs(self.like(i, self.base[i].v)) ** 0.5 if keeps else abs(a)

    def like(self, i: int, value: np.ndarray) -> np.ndarray:
        """What the base keeps of parameter i, complex if that is."""
        return value.view(np.complex128) if np.iscomplexobj(self.w[i]) else value

    def vector(self, i: int, t: int, g: np.ndarray | None, means: dict, draw: torch.Generator) -> np.ndarray | None:
        """What parameter i climbs along, if it does."""
        if self.case["ascent"] == "momentum":
            m = self.base[i].m
            return -self.like(i, m) if m is not None and self.free(i, t) else None
        if self.case["ascent"] == "random":
            shape = self.w[i].shape
            dtype = torch.complex128 if np.iscomplexobj(self.w[i]) else torch.float64
            return torch.randn(shape, generator=draw, dtype=dtype).numpy() if self.free(i, t) else None
        return None if g is None else hand.ascend(self.case["ascent"], i, self.sign[i] * g, means)

    def step(self, t: int) -> Found:
        """One step of the case."""
        only, any_active, means = self.case.one_pass, any(map(self.active, self.of)), dict(self.memory.means)
        total: Grads = self.stale() if self.case.apart else [None] * len(self.w)
        found, kept, finite = Found(self.w, True, 1), None, True
        for micros in self.case.rounds:
            before = self.seen
            first = [None] * len(self.w) if only else self.gradient(t, micros, second=False)
            if not only and self.case.comes("exception", "first pass", t, micros):
                return Found(self.w, False, 1, told=False)
            once, ok = self.seen, _finite(first) and (any_active or _finite(total))  # else they are in one place
            moved, found.norm = self.climb(t, first, means) if any_active and ok else (self.w, None)
            climbs = bool(found.norm) and any(self.schedule(i, found.norm) > 0 for i in set(self.of) if self.active(i))
            used, found.passes = first, 1
            if self.second_runs(climbs, any_active):
                used = self.gradient(t, micros, True, moved)
                self.seen = max(once, before + 1) if self.case["model"] else self.seen
                if self.case.comes("exception", "second pass", t, micros):
                    return Found(self.w, False, 1)
                used, found.passes = (used, 1 if only else 2) if ok else (first, 1)
            if climbs and ok and not only:
                used, kept = self.descent(first, used)
            total, finite = _sum(total, used), finite and ok
        self.end(total, kept, means, finite, found)
        asks = self.case["door"] != "guarded" or any_active  # else the scaler knows alone of a gradient that is not finite
        found.told = asks or found.stepped or not self.case["scaler"]
        return found

    def remembered(self, i: int) -> dict:
        """What the base remembers of parameter i."""
        return hand.remembered(self.case["base"], self.base[i])

    def second_runs(self, climbs: bool, any_active: bool) -> bool:
        """Whether the pass inside the block, or its like, is made."""
        if self.case.one_pass:
            return True
        return {"closure": climbs, "guarded": any_active}.get(self.case["door"], True)

    def end(self, total: Grads, kept: dict[int, np.ndarray] | None, means: dict, finite: bool, found: Found) -> None:
        """The gradients that are left are stepped with, unless they are not finite. `kept` is None if there was one pass."""
        self.there = [g is not None for g in total]
        found.stepped = finite and _finite(total)
        found.norm = found.norm if finite else None  # what an ascent makes of such a gradient is never stepped with
        if found.stepped:
            self.descend(total, one_pass=kept is None)
            self.memory.kept = self.memory.kept if kept is None else kept
            self.memory.means, self.steps, found.weights = means, self.steps + 1, self.w

    def descend(self, total: Grads, *, one_pass: bool) -> None:
        """The step of the base."""
        which = [i for i, g in enumerate(total) if g is not None]
        d = [total[i] for i in which]
        if one_pass and self.case["descent"] == "reuse":
            kept = self.memory.kept
            size = norms.norm([kept[i] for i in which if i in kept])
            share = hand.ALPHA * norms.norm(d) / size if size else 0.0
            d = [x + share * kept.get(i, 0.0) for i, x in zip(which, d, strict=True)]
        base, after = self.case["base"], list(self.w)
        o = hand.options(base, self.case["dtype"])
        for i, x in zip(which, d, strict=True):
            after[i] = hand.stepped(base, self.w[i], self.sign[i] * x, self.rate * self.lr[self.of[i]], self.base[i], o)
        self.w = after

    def descent(self, first: Grads, used: Grads) -> tuple[Grads, dict[int, np.ndarray]]:
        """d from both gradients, for parameters that have a second one; and what is remembered of them."""
        which, kept = [i for i, g in enumerate(used) if g is not None], {}
        big = [used[i] for i in which]
        g = [np.zeros_like(y) if first[i] is None else first[i] for i, y in zip(which, big, strict=True)]
        if self.case["descent"] == "reuse":
            c = norms.dot(big, g) / norms.dot(g, g)
            kept = {i: y - c * x for i, x, y in zip(which, g, big, strict=True)}
            if norms.norm(list(kept.values())) < NOISE[self.case["dtype"]] * norms.norm(big):
                raise Unclear("both gradients have one direction: V is 0, and what is kept is rounding noise")
        d = dict(zip(which, hand.combined(self.case["descent"], g, big), strict=True))
        return [d.get(i) for i in range(len(used))], kept


def _sum(one: Grads, other: Grads) -> Grads:
    return [b if a is None else a if b is None else a + b for a, b in zip(one, other, strict=True)]


def _finite(grads: Grads) -> bool:
    return all(np.isfinite(g).all() for g in grads if g is not None)
