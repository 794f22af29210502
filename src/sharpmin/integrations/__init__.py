"""SAM in the training loops of frameworks, and noise on LoRA adapters. Each file is imported when its name is first used.

| framework | what | extra |
|---|---|---|
| Lightning | `LightningSAM`, a callback | `lightning` |
| Hugging Face Trainer | `SAMTrainerMixin`, a base class | `transformers` |
| Accelerate | `SAMBackward`, in place of `accelerator.backward` | `accelerate` |
| PEFT, or LoRA by hand | `flat_lora`, a block with noise on merged weights; `merged_weights`; `Adapter` | none needed |

`import sharpmin.integrations` needs none of them. A name whose framework is missing raises `MissingExtraError` with the pip
line:

>>> from sharpmin import integrations
>>> "LightningSAM" in dir(integrations)
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from sharpmin.core.errors import MissingExtraError

if TYPE_CHECKING:
    from ._accelerate import SAMBackward
    from ._adapters import Adapter, merged_weights
    from ._flat_lora import flat_lora
    from ._lightning import LightningSAM
    from ._transformers import SAMTrainerMixin

_HOMES = {
    "Adapter": ("_adapters", "peft"),
    "LightningSAM": ("_lightning", "lightning"),
    "SAMBackward": ("_accelerate", "accelerate"),
    "SAMTrainerMixin": ("_transformers", "transformers"),
    "flat_lora": ("_flat_lora", "peft"),
    "merged_weights": ("_adapters", "peft"),
}
"""Public name -> the file that defines it, and the framework, which is also the name of the extra."""

__all__ = ["Adapter", "LightningSAM", "SAMBackward", "SAMTrainerMixin", "flat_lora", "merged_weights"]

if not TYPE_CHECKING:  # hidden from type checkers, which would otherwise accept every misspelled name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        file, framework = _HOMES[name]
        try:
            return getattr(importlib.import_module(f"{__name__}.{file}"), name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] != framework:
                raise  # another import failed: show its error
            raise MissingExtraError(framework, framework) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
