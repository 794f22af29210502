"""Flat-LoRA: the loss at merged weights plus noise that is generated from a seed and never stored; one pass a step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from sharpmin.core.errors import PhaseError
from sharpmin.core.rho import finite
from sharpmin.optim._numeric.kinds import at_least_float32

from ._adapters import Adapted, adapted_layers, matrix, merged

_OWNER = "flat_lora"


@contextmanager
def flat_lora(model: Adapted, sigma: float, *, seed: int) -> Iterator[None]:
    """A block for a pass at W + s B A + eps, with Gaussian eps whose rows have sigma times the norm of the merged weight's.

    ```
    W' = W + s B A, of shape (m, n)          eps_ij = sigma / sqrt(n) ||W'_i|| z_ij,     z_ij ~ N(0, 1), from the seed
    gradients of A and B are those of L(W' + eps), with eps held fixed
    ```

    Forward and backward go inside; then any optimizer steps, once. The frozen weights are never written to: every layer makes
    W + eps when it runs, and once more for its backward pass, from the same seed. So they are the same afterwards, bit for
    bit, also after an exception, and no copy of them is kept; subtracting the noise again would leave rounding errors. Costs
    the noise twice a pass, and the memory of one layer's weight in float32 while the layer runs. The block draws nothing from
    the default generators. It may be put around both passes of a SAM step, which then has the same noise in both.

    Args:
        model: as in `merged_weights`: a model with LoRA adapters by PEFT, or a list of `Adapter`.
        sigma: how large the noise is, >= 0: the length of a row of eps, in root mean square, as a share of that row of W'. At 0
            the block does nothing, so a schedule may start there.
        seed: of the noise, an integer >= 0; give every step another, such as its number, and the micro-batches of a step the
            same.

    Raises:
        TypeError, ValueError: as in `merged_weights`; also if a frozen weight is not frozen, or a number is out of range.
        PhaseError: inside another such block, or if the forward of a layer was replaced already.

    Source: Li, He, Li, Wang, Shang & Huang, Flat-LoRA: Low-Rank Adaptation over a Flat Loss Landscape, 2025, ICML,
    arXiv:2409.14396.

    >>> from sharpmin.integrations import Adapter
    >>> layer, a, b = nn.Linear(2, 2), nn.Parameter(torch.ones(1, 2)), nn.Parameter(torch.zeros(2, 1))
    >>> _ = layer.requires_grad_(False)
    >>> x, adapters = torch.ones(1, 2), [Adapter(layer, a, b)]
    >>> def forward():
    ...     return layer(x) + x @ a.T @ b.T
    >>> clean = forward()
    >>> with flat_lora(adapters, sigma=0.1, seed=0):
    ...     noisy, again = forward(), forward()
    >>> torch.equal(noisy, again), torch.equal(noisy, clean), torch.equal(forward(), clean)
    (True, False, True)
    """
    finite(sigma, "sigma", _OWNER, low=0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(
            f"{_OWNER}: seed={seed!r}; seed must be an integer >= 0 and below 2**63, such as the number of the step"
        )
    layers = adapted_layers(model, _OWNER)
    for name, adapters in layers.items():
        _require_ready(name, adapters[0].base)
    seeds = torch.randint(2**62, (len(layers),), generator=torch.Generator().manual_seed(seed), device="cpu").tolist()
    bases: list[Any] = [adapters[0].base for adapters in layers.values()] if sigma else []
    try:
        for base, adapters, own in zip(bases, layers.values(), seeds, strict=False):
            base.forward = _Noisy(base, sigma * _row_scale(merged(adapters)), own)
        yield
    finally:
        for base in bases:
            base.__dict__.pop("forward", None)


def _require_ready(name: str, base: nn.Module) -> None:
    if base.weight.requires_grad:
        raise ValueError(f"{_OWNER}: the weight of {name!r} is trained itself; freeze it: layer.weight.requires_grad_(False)")
    if "forward" in vars(base):
        raise PhaseError(
            f"{_OWNER}: the forward of {name!r} is replaced already, by another flat_lora block or by a hook of a framework; "
            "blocks cannot be nested, and weights that are offloaded cannot be perturbed"
        )


def _row_scale(whole: Tensor) -> Tensor:
    """||W'_i|| / sqrt(n) for every row, of shape (m, 1), in float32 at least."""
    norms: Tensor = at_least_float32(whole).norm(dim=1, keepdim=True)
    return norms / math.sqrt(whole.shape[1])


class _Noisy:
    """The forward of a linear layer with noise on its weight, generated from the seed at every call."""

    def __init__(self, base: nn.Module, scale: Tensor, seed: int):
        self._base, self._scale, self._seed = base, scale, seed

    def __call__(self, input: Tensor) -> Tensor:
        """Return the layer's output."""
        out: Tensor = _NoisyLinear.apply(input, self._base.bias, self)  # type: ignore[no-untyped-call]
        return out

    @torch.no_grad()
    def weight(self) -> Tensor:
        """W + eps, rounded once."""
        w = matrix(self._base)
        generator = torch.Generator(w.device).manual_seed(self._seed)
        z = torch.randn(w.shape, generator=generator, device=w.device, dtype=self._scale.dtype)
        return z.mul_(self._scale).add_(w).to(w.dtype)


class _NoisyLinear(torch.autograd.Function):
    """x (W + eps)^T + bias; the backward pass computes W + eps again instead of storing it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, noisy: _Noisy) -> Tensor:
        ctx.noisy, ctx.dtypes = noisy, (x.dtype, None if bias is None else bias.dtype)
        return linear(x, noisy.weight(), bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        of_x, of_bias = None, None
        if ctx.needs_input_grad[0]:
            of_x = (slope @ ctx.noisy.weight().to(slope.dtype)).to(ctx.dtypes[0])
        if ctx.needs_input_grad[1]:
            of_bias = slope.reshape(-1, slope.shape[-1]).sum(0).to(ctx.dtypes[1])
        return of_x, of_bias, None
