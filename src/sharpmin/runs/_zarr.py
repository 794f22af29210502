"""Writes a dataset to a Zarr store, which replaces an older one as a whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

if TYPE_CHECKING:
    from xarray import Dataset

zarr = optional("zarr", extra="export")


def zarr_target(path: Path) -> Path:
    """Check, before hours of computing, that a Zarr store can be written at `path`.

    Raises:
        ValueError: if the name does not end in .zarr, or something else is there.
        OSError: if its folder is missing or cannot be written.
        MissingExtraError: if zarr is not installed.
    """
    if path.suffix != ".zarr":
        raise ValueError(f"{path} must end in .zarr")
    path, folder = path.resolve(), path.resolve().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise OSError(f"cannot write {path.name} into {folder}: no folder that can be written is there")
    if path.exists() and not (path / ".zgroup").is_file():
        raise ValueError(f"{path} is there, and no Zarr store of this command: choose another name")
    _ = zarr.open_group
    return path


def write_zarr(dataset: Dataset, path: Path) -> None:
    """Write a dataset, whole or not at all; an older store there is replaced.

    The format is Zarr's version 2: all readers know it, and that of version 3 has no settled type for texts.
    `xarray.open_zarr(path)` gives the same dataset back.

    Args:
        dataset: as `to_dataset` makes it.
        path: a name that ends in .zarr.

    Raises:
        ValueError: if the name does not end in .zarr, or something else is there.
        OSError: if it cannot be written.
        MissingExtraError: if zarr is not installed.

    >>> import tempfile, xarray
    >>> from sharpmin.runs import to_dataset
    >>> runs = to_dataset([{"id": {"method": m}, "loss": loss} for m, loss in [("sam", 0.5), ("sgd", 0.25)]])
    >>> path = Path(tempfile.mkdtemp()) / "runs.zarr"
    >>> write_zarr(runs, path)
    >>> with xarray.open_zarr(path) as back:
    ...     print(back.identical(runs))
    True
    """
    path = zarr_target(path)
    draft, old = (path.with_name(f".{path.name}.{os.getpid()}.{part}") for part in ("draft", "old"))
    try:
        dataset.to_zarr(draft, mode="w", zarr_format=2, consolidated=True)
        if path.exists():
            os.rename(path, old)
        os.rename(draft, path)
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        for folder in (draft, old):
            shutil.rmtree(folder, ignore_errors=True)
