"""The families that several processes play together. A new one is a function with `@family(..., ranks=True)` in a file here."""

from . import (  # noqa: F401, I001  # imports register; the order is that of the table
    _ddp,
    _ddp_care,
    _per_rank,
    _fsdp,
    _fsdp_care,
)
