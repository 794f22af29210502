"""Parameter groups with which SAM perturbs normalization layers only."""

from __future__ import annotations

from typing import Any

from torch import nn


def norm_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Two parameter groups for the base optimizer: SAM perturbs those of normalization layers, and leaves the rest at rho = 0.

    Mueller, Vlaar, Rolnick & Hein, Normalization Layers Are All That Sharpness-Aware Minimization Needs, NeurIPS 2023,
    arXiv:2306.04226. Their radii are larger than SAM's. It saves memory, since only perturbed weights are copied, but no
    pass. A normalization layer is a module whose class has "Norm" in its name, such as
    `BatchNorm2d`, `LayerNorm`, `RMSNorm`; its own parameters count.

    Returns:
        The groups, the one of the normalization layers first; without `rho`, so that it takes that of `SAM`.

    Raises:
        ValueError: if the model has no normalization layer with a parameter that is trained.

    >>> import torch
    >>> from sharpmin import SAM
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    >>> opt = SAM(torch.optim.SGD(norm_groups(model), lr=0.1), rho=1.0)
    >>> [(len(group["params"]), group["rho"]) for group in opt.param_groups]
    [(2, 1.0), (4, 0.0)]
    """
    layers = [module for module in model.modules() if "Norm" in type(module).__name__]
    own = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
    norms = [p for p in model.parameters() if id(p) in own]
    if not any(p.requires_grad for p in norms):
        raise ValueError(
            f"norm_groups: {type(model).__name__} has no normalization layer with a parameter that is trained"
            f"{', only frozen ones' if norms else ''}, so SAM would perturb nothing; give sam(base) all parameters instead: "
            "torch.optim.SGD(model.parameters(), lr=0.1)"
        )
    rest = [p for p in model.parameters() if id(p) not in own]
    return [{"params": norms}, *([{"params": rest, "rho": 0.0}] if rest else [])]
