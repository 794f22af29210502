"""Files that a command writes: checked before it computes anything, and replaced atomically."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def writable(option: str, name: str, suffixes: tuple[str, ...]) -> Path:
    """The path of a file to write, checked.

    Raises:
        ValueError: if it has another suffix, or is a folder.
        OSError: if its folder is missing or cannot be written.
    """
    out, example = Path(name), f"run{suffixes[0]}"
    if out.suffix not in suffixes:
        raise ValueError(f"{option} {name} must end in {' or '.join(suffixes)}; for example: {option} {example}")
    if name.endswith(("/", os.sep)) or out.is_dir():
        raise ValueError(
            f"{option} {name} names a folder; name a file; for example: {option} {out / example if out.is_dir() else out}"
        )
    end = f"choose a file in a folder that exists and can be written; for example: {option} {example}"
    folder = (out.resolve() if out.is_symlink() else out).parent
    if not folder.is_dir():
        raise OSError(f"cannot write to {option} {name}: there is no folder {folder}; {end}")
    if not os.access(folder, os.W_OK):
        raise OSError(f"cannot write to {option} {name}: {folder} cannot be written; {end}")
    return out


def replace(target: Path, text: str) -> None:
    """Replace the content of `target` by `text` atomically."""
    with replaced(target) as draft:
        draft.write_text(text, encoding="utf-8")


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A temporary file that replaces `target` when the block ends; a symbolic link is kept and its file replaced."""
    target = target.resolve()
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield draft
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
