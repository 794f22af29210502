"""The nets of the studies, made from the global random state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._samples import CONTEXT


def perceptron() -> nn.Module:
    """Two hidden layers of 64."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def convolutions() -> nn.Module:
    """Three convolutions over 40 points."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 40))]
    for inputs, width in ((1, 5), (25, 3), (25, 3)):
        layers += [nn.Conv1d(inputs, 25, width, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(125, 10))


def batchnorm() -> nn.Module:
    """Two convolutions with BatchNorm over 14 x 14 pixels."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 8), (8, 16)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 10))


def softmax() -> nn.Module:
    """Softmax regression, from 0."""
    model = nn.Linear(31, 2, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    return model


class Transformer(nn.Module):
    """A causal transformer over characters: two layers of width 32, two heads."""

    def __init__(self, characters: int = 103, width: int = 32):
        super().__init__()
        self.characters, self.places = nn.Embedding(characters, width), nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        layer = nn.TransformerEncoderLayer(width, 2, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(width, characters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Windows of characters -> a score for each character that may follow each."""
        hidden: Tensor = self.layers(self.characters(x) + self.places, mask=self.mask, is_causal=True)
        return self.head(hidden)  # type: ignore[no-any-return]
