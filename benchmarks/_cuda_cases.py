"""The nets of `step_overhead.py --device cuda`, each with data, base, precision, rounds and target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from _nets import Task, mlp, resnet
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention
from torch.optim import Optimizer

Parameters = Sequence[nn.Parameter]


class Block(nn.Module):
    """Causal attention and an MLP of four times the width, each on top of a LayerNorm."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.norms = heads, nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mixed(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(-2))
        return x + self.down(gelu(self.up(self.norms[1](x))))


class GPT(nn.Module):
    """A decoder of the shape of GPT-2; with the numbers below 124 M weights."""

    def __init__(self, layers: int = 12, width: int = 768, heads: int = 12, words: int = 50_304, places: int = 1024):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Parameter(0.02 * torch.randn(places, width))
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.words(x) + self.places))).flatten(0, 1)


def resnet50() -> nn.Module:
    from torchvision.models import resnet50 as of_torchvision

    return of_torchvision()


def sgd(parameters: Parameters) -> Optimizer:
    return torch.optim.SGD(parameters, lr=1e-5, momentum=0.9)


def adamw(parameters: Parameters) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-7, fused=True)


def pictures(batch: int, size: int, classes: int) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 3, size, size), torch.randint(classes, (batch,))


def tokens(batch: int, words: int = 50_304, places: int = 1024) -> tuple[Tensor, Tensor]:
    return torch.randint(words, (batch, places)), torch.randint(words, (batch * places,))


@dataclass(frozen=True)
class Case:
    """A net, its data, the base, the rounds of a default run, and the ratio to reach.

    Attributes:
        autocast: the dtype of autocast; None for none.
        weights: the dtype of weights and pictures.
        channels_last: the memory format of convolutions.
        needs: a module that must be installed.
    """

    net: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    base: Callable[[Parameters], Optimizer]
    rounds: int
    target: float
    autocast: torch.dtype | None = torch.bfloat16
    weights: torch.dtype = torch.float32
    channels_last: bool = False
    needs: str | None = None


CASES = {
    "mlp": Case(mlp, lambda: (torch.randn(256, 32), torch.randint(32, (256,))), sgd, 64, 1.06, autocast=None),
    "resnet18": Case(resnet, partial(pictures, 128, 32, 10), sgd, 40, 1.06, channels_last=True),
    "resnet50": Case(resnet50, partial(pictures, 64, 224, 1000), sgd, 24, 1.04, channels_last=True, needs="torchvision"),
    "gpt": Case(GPT, partial(tokens, 8), adamw, 16, 1.03),
    "gpt-batch1": Case(GPT, partial(tokens, 1), adamw, 24, 1.05),
    "gpt-bf16": Case(GPT, partial(tokens, 8), adamw, 16, 1.04, autocast=None, weights=torch.bfloat16),
}


@dataclass
class DeviceTask(Task):
    """The net of all methods and their base, on a device."""

    case: Case | None = None
    own: Optimizer | None = None

    def base(self) -> Optimizer:  # the same for every method
        if self.own is None:
            self.own = self.case.base(list(self.net.parameters()))
        return self.own

    def passes(self) -> Tensor:
        kind = self.case.autocast
        with torch.autocast(self.x.device.type, kind) if kind else nullcontext():
            loss = cross_entropy(self.net(self.x), self.y)
        loss.backward()
        return loss


def on_device(case: Case, device: str, seed: int) -> DeviceTask:
    torch.manual_seed(seed)
    layout = torch.channels_last if case.channels_last else torch.preserve_format
    net, (x, y) = case.net().to(device, case.weights, memory_format=layout), case.data()
    x = x.to(device, case.weights, memory_format=layout) if x.is_floating_point() else x.to(device)
    return DeviceTask(net, x, y.to(device), 0.0, case)
