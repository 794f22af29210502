"""Low-rank adapters (LoRA): the layers of a model that have one, and their merged weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.optim._numeric.shards import any_sharded


@dataclass(frozen=True, eq=False)
class Adapter:
    """A frozen linear layer and its low-rank update: x -> base(x) + scale B A x, so W + scale B A is the merged weight.

    Attributes:
        base: the frozen layer, a `torch.nn.Linear` or the `Conv1D` of Transformers; W has the shape (m, n).
        a: A, of shape (r, n).
        b: B, of shape (m, r).
        scale: the factor, lora_alpha / r in PEFT.

    Raises:
        TypeError: if the base is another layer, or its weight is sharded.
        ValueError: if the shapes do not fit.

    >>> adapter = Adapter(nn.Linear(3, 2), torch.ones(1, 3), torch.ones(2, 1), scale=0.5)
    >>> Adapter(nn.Linear(3, 2), torch.ones(2, 1), torch.ones(1, 3))
    Traceback (most recent call last):
        ...
    ValueError: Adapter: a has shape (2, 1) and b (1, 3), but the weight of the base is (2, 3): a must be (r, 3), and b (2, r)
    """

    base: nn.Module
    a: Tensor
    b: Tensor
    scale: float = 1.0

    def __post_init__(self) -> None:
        if type(self.base).forward is not nn.Linear.forward and not is_conv1d(self.base):
            raise TypeError(
                f"Adapter: the base is a {type(self.base).__name__}; only torch.nn.Linear and the Conv1D of Transformers are "
                "linear layers whose weight can be read (no quantized layers, convolutions or embeddings)"
            )
        if any_sharded(self.base.parameters()):
            raise TypeError("Adapter: the weight of the base is sharded (DTensor); its rows must be whole on every rank")
        rows, columns = matrix(self.base).shape
        if self.a.dim() != 2 or self.a.shape[1] != columns or self.b.shape != (rows, self.a.shape[0]):
            raise ValueError(
                f"Adapter: a has shape {tuple(self.a.shape)} and b {tuple(self.b.shape)}, but the weight of the base is "
                f"{(rows, columns)}: a must be (r, {columns}), and b ({rows}, r)"
            )


Adapted = nn.Module | Sequence[Adapter]
"""A model with adapters by PEFT, or a list of adapters of the user's own layers."""


def is_conv1d(base: nn.Module) -> bool:
    """Whether a layer is the `Conv1D` of Transformers, a linear layer with a transposed weight."""
    return type(base).__name__ == "Conv1D" and type(base).__module__ == "transformers.pytorch_utils"


def matrix(base: nn.Module) -> Tensor:
    """W, of shape (m, n): a view of the weight of a linear layer."""
    parameter: Any = base.weight
    weight: Tensor = parameter.detach()
    return weight.T if is_conv1d(base) else weight


@torch.no_grad()
def merged(adapters: Sequence[Adapter]) -> Tensor:
    """W plus the updates of all adapters of one layer."""
    whole = matrix(adapters[0].base).clone()
    for adapter in adapters:
        whole += (adapter.scale * (adapter.b @ adapter.a)).to(whole)
    return whole


def merged_weights(model: Adapted) -> dict[str, Tensor]:
    """Copies of the merged weight W + s B A of every layer with an adapter.

    SAM's perturbation e = (e_A, e_B) of an adapter moves the merged weight by

    ```
    s [(B + e_B)(A + e_A) - B A] = s (e_B A + B e_A + e_B e_A),     of rank 2 r at most
    ```

    where r is the rank of the adapter. At the usual start B = 0, so the gradient of A is 0 and with it e_A: the move is
    s e_B A, of rank r, in the row space of A. The difference of two calls, one of them inside `opt.perturbed()`, shows the
    move of a run.

    Args:
        model: a model whose active adapters are LoRA's, by PEFT; or a list of `Adapter`, for layers of your own.

    Returns:
        Name of the layer (its number in a list) -> the merged weight, of shape (m, n).

    Raises:
        TypeError, ValueError: if the model has no adapters, or adapters without a merged weight W + s B A (DoRA, embeddings,
            convolutions, quantized weights); if they are merged already, or disabled.

    >>> layer, a, b = nn.Linear(2, 2, bias=False), torch.tensor([[1.0, 0.0]]), torch.zeros(2, 1)
    >>> _ = nn.init.zeros_(layer.weight)
    >>> before = merged_weights([Adapter(layer, a, b, scale=2.0)])
    >>> after = merged_weights([Adapter(layer, a, b + 0.5, scale=2.0)])  # e_B = 0.5: s e_B A
    >>> (after["0"] - before["0"]).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    return {name: merged(adapters) for name, adapters in adapted_layers(model, "merged_weights").items()}


def adapted_layers(model: Adapted, owner: str) -> dict[str, list[Adapter]]:
    """Name of the layer -> its active adapters; see `merged_weights`."""
    if isinstance(model, nn.Module):
        found = {name: adapters for name, layer in model.named_modules() if (adapters := _by_peft(name, layer, owner))}
    elif isinstance(model, Sequence) and all(isinstance(adapter, Adapter) for adapter in model):
        by_base: dict[int, list[Adapter]] = {}
        for adapter in model:
            by_base.setdefault(id(adapter.base), []).append(adapter)
        found = {str(number): adapters for number, adapters in enumerate(by_base.values())}
    else:
        raise TypeError(f"{owner}: model={type(model).__name__}; give a model with adapters by PEFT, or a list of Adapter")
    if not found:
        raise ValueError(
            f"{owner}: no layer has an active LoRA adapter; make some by peft.get_peft_model(model, peft.LoraConfig(...)), or "
            "give those of your own layers: [Adapter(layer.frozen, layer.a, layer.b, scale), ...]"
        )
    return found


def _by_peft(name: str, layer: Any, owner: str) -> list[Adapter]:
    """The active adapters of a LoRA layer of PEFT; empty for other layers."""
    if not all(hasattr(layer, part) for part in ("base_layer", "lora_A", "lora_B", "scaling", "active_adapters")):
        return []
    embedding = getattr(layer, "lora_embedding_A", {})
    active = [key for key in layer.active_adapters if key in layer.lora_A or key in embedding]
    if not active:
        return []
    if layer.merged:
        raise ValueError(f"{owner}: the adapter of {name!r} is merged into its base; call model.unmerge_adapter() first")
    if layer.disable_adapters:
        raise ValueError(f"{owner}: the adapter of {name!r} is disabled; leave disable_adapter() first")
    return list(_made(name, layer, active, owner))


def _made(name: str, layer: Any, active: Sequence[str], owner: str) -> Iterator[Adapter]:
    for key in active:
        if (variant := getattr(layer, "lora_variant", {}).get(key)) is not None:
            raise TypeError(
                f"{owner}: the adapter of {name!r} is a {type(variant).__name__}, whose merged weight is not W + s B A; use a "
                "LoraConfig without it"
            )
        if key not in layer.lora_A:
            raise TypeError(f"{owner}: {name!r} adapts an embedding; leave it out of target_modules")
        try:
            yield Adapter(layer.base_layer, layer.lora_A[key].weight, layer.lora_B[key].weight, layer.scaling[key])
        except (TypeError, ValueError) as error:
            raise type(error)(f"{owner}: layer {name!r}: {error}") from None
