"""The runs that `diagnosis.py` diagnoses: each trains, is watched for a window, and then branches to find the true answer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import sharpmin as sm
from sharpmin.diagnostics.toggle import toggle

BASES = {
    "sgd": lambda ps, lr: torch.optim.SGD(ps, lr=lr),
    "momentum": lambda ps, lr: torch.optim.SGD(ps, lr=lr, momentum=0.9),
    "adam": lambda ps, lr: torch.optim.Adam(ps, lr=lr),
}


@dataclass(frozen=True)
class Cell:
    """One run: `kind` is convex, net, null or worst-case; the rest is its setting."""

    kind: str
    data: str
    base: str
    lr: float
    rho: float
    noise: float = 0.0
    seed: int = 0
    reshuffled: bool = False

    @property
    def id(self) -> dict[str, Any]:
        """The setting, and everything else that determines the result."""
        return {**asdict(self), "sharpmin": sm.__version__, "torch": str(torch.__version__)}


def run(cell: Cell) -> dict[str, Any]:
    """The verdict, its numbers and the true answer of one cell."""
    torch.set_num_threads(1)
    torch.manual_seed(cell.seed)
    return {"convex": convex, "net": net, "null": null, "worst-case": worst_case}[cell.kind](cell)


def told(found: sm.diagnostics.Diagnosis) -> dict[str, Any]:
    """A diagnosis as JSON-ready values."""
    floor = (
        {} if found.floor is None else {"of_rho": found.floor.of_rho, "of_noise": found.floor.of_noise, "W": found.floor.noise}
    )
    return {"state": found.state.value, **found.numbers.asdict(), **floor}


# softmax regression with an l2 penalty: the optimum is known, so the gap and its parts are


@lru_cache(maxsize=2)
def table(name: str) -> tuple[Tensor, Tensor]:
    """Standardized features with a column of ones, and labels."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x, spread = x - x.mean(0), x.std(0)
    x = np.hstack([x / np.where(spread == 0, 1, spread), np.ones((len(x), 1))])
    return torch.tensor(x), torch.tensor(y)


class Softmax:
    """Softmax regression with its gradient by hand: autograd would take three quarters of a step of this size."""

    l2 = 0.01

    def __init__(self, name: str):
        self.x, self.y = table(name)
        self.onehot = nn.functional.one_hot(self.y).double()

    def loss(self, w: Tensor) -> float:
        """The loss over all samples."""
        return float(nn.functional.cross_entropy(self.x @ w, self.y) + self.l2 / 2 * (w**2).sum())

    def gradient(self, w: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient of a batch."""
        x, onehot = self.x[rows], self.onehot[rows]
        logits = x @ w
        logp = logits - torch.logsumexp(logits, 1, keepdim=True)
        loss = -(logp * onehot).sum() / len(rows) + self.l2 / 2 * (w * w).sum()
        return loss, x.T @ (logp.exp() - onehot) / len(rows) + self.l2 * w

    @lru_cache(maxsize=4)  # noqa: B019
    def least(self) -> float:
        """f*."""
        w = torch.zeros(self.x.shape[1], self.onehot.shape[1], dtype=torch.float64, requires_grad=True)
        best = torch.optim.LBFGS([w], max_iter=2000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            best.zero_grad()
            loss = nn.functional.cross_entropy(self.x @ w, self.y) + self.l2 / 2 * (w**2).sum()
            loss.backward()
            return loss

        best.step(closure)
        return self.loss(w.detach())


def convex(cell: Cell, window: int = 20_000) -> dict[str, Any]:
    """Warm up, watch, then continue with rho = 0: the fall of the mean gap is the part due to rho."""
    f, rng = Softmax(cell.data), torch.Generator().manual_seed(cell.seed)
    w = nn.Parameter(torch.zeros(f.x.shape[1], f.onehot.shape[1], dtype=torch.float64))
    opt = sm.SAM(BASES[cell.base]([w], cell.lr), rho=cell.rho)

    def batches():  # type: ignore[no-untyped-def]
        while True:
            if cell.reshuffled:
                yield from torch.randperm(len(f.x), generator=rng).split(32)
            else:
                yield torch.randint(len(f.x), (32,), generator=rng)

    feed = batches()

    def steps(count: int) -> float:
        total = 0.0
        for k in range(count):
            rows = next(feed)

            def closure(rows: Tensor = rows) -> Tensor:
                loss, w.grad = f.gradient(w.detach(), rows)
                return loss

            opt.step(closure)
            total += f.loss(w.detach()) if k % 20 == 0 else 0.0
        return total / -(-count // 20) - f.least()

    steps(max(10_000, int(5 / (cell.lr * f.l2))) if cell.base == "sgd" else 12_000)
    probe = sm.watch(opt, mu=f.l2, reshuffled=cell.reshuffled, epoch=None, block=window // 40)
    gap = steps(window)
    found = told(sm.diagnose(probe))
    opt.watchers.clear()
    opt.param_groups[0]["rho"] = 0.0
    steps(window // 4)
    return {**found, "gap": gap, "rest": (rest := steps(window // 2)), "truth": gap - rest}


# small nets, where no optimum is known: the truth is the fall of the loss in a branch with rho = 0


@lru_cache(maxsize=4)
def samples(name: str, noise: float, seed: int) -> tuple[Tensor, ...]:
    """A training set with a share of random labels, and a test set."""
    if name == "digits":
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        x, y = load_digits(return_X_y=True)
        parts = train_test_split(x / 16, y, test_size=0.25, random_state=0, stratify=y)
        x, xt, y, yt = (torch.tensor(part) for part in parts)
    else:
        from mnist1d.data import get_dataset_args, make_dataset

        made = make_dataset(get_dataset_args())
        x, y, xt, yt = (torch.tensor(made[key]) for key in ("x", "y", "x_test", "y_test"))
    rng = torch.Generator().manual_seed(1000 + seed)
    flip = torch.rand(len(y), generator=rng) < noise
    return x.float(), torch.where(flip, torch.randint(10, (len(y),), generator=rng), y), xt.float(), yt


def model_of(name: str) -> nn.Module:
    """An MLP for digits, three convolutions for mnist1d."""
    if name == "digits":
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    layers = [
        nn.Conv1d(1, 25, 5, 2, 1),
        nn.ReLU(),
        nn.Conv1d(25, 25, 3, 2, 1),
        nn.ReLU(),
        nn.Conv1d(25, 25, 3, 2, 1),
        nn.ReLU(),
    ]
    return nn.Sequential(nn.Unflatten(1, (1, 40)), *layers, nn.Flatten(), nn.Linear(125, 10))


def train_step(model: nn.Module, opt: sm.SAM, batch: tuple[Tensor, Tensor]) -> Tensor:
    """One training step with any optimizer."""

    def closure() -> Tensor:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        return loss

    return opt.step(closure)


def net(cell: Cell, epochs: int = 60, settle: int = 20) -> dict[str, Any]:
    """Train at a large lr, settle at the cell's, watch for 20 epochs, then branch for a quarter of that."""
    x, y, xt, yt = samples(cell.data, cell.noise, cell.seed)
    rng = torch.Generator().manual_seed(cell.seed)
    model = model_of(cell.data)
    opt = sm.SAM(BASES[cell.base](model.parameters(), 0.05 if cell.base != "adam" else 0.003), rho=cell.rho)

    def epoch() -> list[tuple[Tensor, Tensor]]:
        rows = torch.randperm(len(x), generator=rng)
        return [(x[i], y[i]) for i in rows[: len(x) // 100 * 100].split(100)]

    for number in range(epochs + settle):
        if number == epochs:
            opt.param_groups[0]["lr"] = cell.lr
        for batch in epoch():
            train_step(model, opt, batch)
    probe = sm.watch(opt, epoch=len(x) // 100, reshuffled=True, every=4)
    for _ in range(20):
        for batch in epoch():
            train_step(model, opt, batch)
    found = sm.diagnose(probe)

    falls = []
    for _ in range(5):  # several batch orders, since at a small loss one branch is mostly noise
        batches = [b for _ in range(1 + found.numbers.horizon // (len(x) // 100)) for b in epoch()][: found.numbers.horizon]
        falls.append(toggle(model, opt, train_step, batches).differences["rho = 0"].mean)
    mean, error = float(np.mean(falls)), 2.776 * float(np.std(falls, ddof=1)) / math.sqrt(5)
    with torch.no_grad():
        accuracy = float((model(xt).argmax(1) == yt).double().mean())
    return {**told(found), "truth": mean, "clear": abs(mean) > error, "accuracy": accuracy}


# runs whose answer is known beforehand


def null(cell: Cell, steps: int = 2000) -> dict[str, Any]:
    """0.5 w'Hw with symmetric noise, at rest around the optimum: E[D] = 0, so p should be uniform."""
    rng = torch.Generator().manual_seed(cell.seed)
    h = torch.linspace(0.1, 1.0, 20, dtype=torch.float64)
    w = nn.Parameter(torch.zeros(20, dtype=torch.float64))
    opt = sm.SAM(torch.optim.SGD([w], lr=cell.lr), rho=cell.rho)
    probe = None
    for k in range(2 * steps):
        if k == steps:
            probe = sm.watch(opt, every=1, block=steps // 20)
        noise = torch.randn(20, generator=rng, dtype=torch.float64)

        def closure(noise: Tensor = noise) -> Tensor:
            w.grad = h * w.detach() + noise
            return 0.5 * (h * w.detach() ** 2).sum()

        opt.step(closure)
    return told(sm.diagnose(probe))


def worst_case(cell: Cell, steps: int = 4000) -> dict[str, Any]:
    """E1, E3 and the two-cycle, from the laboratory's own problems."""
    problems, rng = sm.theory.problems(), np.random.default_rng(cell.seed)
    f = {
        "e1": lambda: problems["e1"](beta=1.0, mu=0.1, rho=cell.rho),
        "e3": lambda: problems["e3"](p=0.1, rho=cell.rho),
        "two-cycle": lambda: problems["quadratic"](curvatures=[1.0]),
    }[cell.data]()
    w = nn.Parameter(torch.tensor([3.05 if cell.data == "e1" else 0.3], dtype=torch.float64))
    opt = sm.SAM(torch.optim.SGD([w], lr=cell.lr), rho=cell.rho)

    def take(count: int) -> float:
        total = 0.0
        for _ in range(count):
            draw = f.draw(rng.random((1, 1))) if cell.data != "two-cycle" else None
            jitter = cell.noise * rng.standard_normal()

            def closure(draw: Any = draw, jitter: float = jitter) -> Tensor:
                x = w.detach().numpy()
                g = f.gradient(x) if draw is None else f.sample_gradient(x, draw)
                w.grad = torch.from_numpy(np.asarray(g)) + jitter
                return torch.from_numpy(f.value(x))[0]

            opt.step(closure)
            total += float(f.gap(w.detach().numpy())[0])
        return total / count

    take(steps)
    probe = sm.watch(opt, every=1, block=steps // 20, reshuffled=False)
    gap = take(steps)
    found = told(sm.diagnose(probe))
    opt.watchers.clear()
    opt.param_groups[0]["rho"] = 0.0
    take(steps)
    rest = take(steps)
    return {**found, "gap": gap, "rest": rest, "truth": gap - rest, "clear": not math.isclose(gap, rest)}
