"""The nets of `step_overhead.py`, in plain torch, each with data, rounds and target."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu


def mlp() -> nn.Module:
    """101 layers of width 32: many tiny tensors. Orthogonal weights, or no gradient would reach the first layer."""
    layers = [nn.Linear(32, 32) for _ in range(101)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
    hidden = [module for layer in layers[:-1] for module in (layer, nn.Tanh())]
    return nn.Sequential(*hidden, layers[-1])


def conv_norm(wide_in: int, wide_out: int, size: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(wide_in, wide_out, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(wide_out))


class Residual(nn.Module):
    """relu(x + f(x)) with two 3x3 convolutions; a 1x1 one on the shortcut where the shape changes."""

    def __init__(self, wide_in: int, wide_out: int, stride: int):
        super().__init__()
        self.first, self.second = conv_norm(wide_in, wide_out, 3, stride), conv_norm(wide_out, wide_out, 3)
        self.shortcut = nn.Identity() if wide_in == wide_out else conv_norm(wide_in, wide_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.second(relu(self.first(x))) + self.shortcut(x))


def resnet() -> nn.Module:
    """ResNet-18 for images of 32 x 32."""
    blocks = [Residual(64, 64, 1), Residual(64, 64, 1)]
    for wide in (128, 256, 512):
        blocks += [Residual(wide // 2, wide, 2), Residual(wide, wide, 1)]
    return nn.Sequential(conv_norm(3, 64, 3), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class Encoder(nn.Module):
    """Six encoder layers of width 192 that classify each of 64 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(1000, 192), nn.Parameter(0.02 * torch.randn(64, 192))
        layers = [nn.TransformerEncoderLayer(192, 6, 768, dropout=0.0, batch_first=True) for _ in range(6)]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(192, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.tokens(x) + self.places)).flatten(0, 1)


@dataclass(frozen=True)
class Case:
    """A net, its data, the rounds of a default run, and the ratio to reach."""

    net: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    rounds: int
    target: float


CASES = {
    "mlp": Case(mlp, lambda: (torch.randn(128, 32), torch.randint(32, (128,))), 500, 1.10),
    "resnet": Case(resnet, lambda: (torch.randn(2, 3, 32, 32), torch.randint(10, (2,))), 50, 1.08),
    "transformer": Case(Encoder, lambda: (torch.randint(1000, (4, 64)), torch.randint(1000, (256,))), 100, 1.05),
}


@dataclass
class Task:
    """One method's own net, and the data of all."""

    net: nn.Module
    x: Tensor
    y: Tensor
    lr: float

    def base(self) -> torch.optim.SGD:
        return torch.optim.SGD(self.net.parameters(), lr=self.lr, momentum=0.9)

    def passes(self) -> Tensor:
        """Forward and backward."""
        loss = cross_entropy(self.net(self.x), self.y)
        loss.backward()
        return loss


def prepare(case: Case, seed: int) -> Callable[..., Task]:
    """A function of learning rate and dtype that returns a task with its own copy of one net."""
    torch.manual_seed(seed)
    net, (x, y) = case.net(), case.data()

    def task(lr: float, dtype: torch.dtype = torch.float32) -> Task:
        return Task(copy.deepcopy(net).to(dtype), x.to(dtype) if x.is_floating_point() else x, y, lr)

    return task
