"""Run tests in a fork of a process that has imported what is slow to import, but not the library."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from compileall import compile_dir
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

SLOW = ("torch", "numpy", "scipy", "pytest", "torch.optim", "torch.nn")
"""Modules that the forking process imports once; those that are not installed are skipped."""
OPTIONS = ("-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=no")
PASSED, FAILED, NO_TESTS, TOO_LONG = 0, 1, 5, 124
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "out", "build", "dist")


class Copy:
    """A copy of the repository in which one file at a time is changed; the working tree is never written to."""

    def __init__(self, root: Path, to: Path):
        self.root = to / "copy"
        shutil.copytree(root, self.root, ignore=_LEFT_OUT, symlinks=True)
        compile_dir(self.root / "src", quiet=2)
        self._changes = 0

    @contextmanager
    def changed(self, path: str, source: str) -> Iterator[None]:
        """Replace the text of one file. Its modification time is one that no bytecode file has, so Python compiles it anew."""
        file = self.root / path
        was, stat = file.read_bytes(), file.stat()
        self._changes += 1
        try:
            file.write_text(source, encoding="utf-8")
            os.utime(file, (stat.st_mtime + 10 * self._changes,) * 2)
            yield
        finally:
            file.write_bytes(was)
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def warm_up() -> None:
    """Import what is slow; one thread, so that a fork is safe."""
    for name in SLOW:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if name == "torch":
            module.set_num_threads(1)
    sys.dont_write_bytecode = True
    if any(name.split(".")[0] == "sharpmin" for name in sys.modules):
        raise RuntimeError("mutants: the library is imported already, so a mutant would not be seen")


def run(copy: Copy, arguments: Sequence[str], *, limit: float, plugin: Any, log: Path) -> int:
    """Pytest with these arguments in the copy, in a process group of its own; its exit status, `TOO_LONG` past the limit."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _child(copy.root, arguments, plugin, log)
    ended = False
    try:
        ended = _ends(child, limit)
    finally:  # past the limit, or where this process is stopped itself
        status = _end(child)
    return os.waitstatus_to_exitcode(status) if ended else TOO_LONG


def _ends(child: int, limit: float) -> bool:
    """Whether a child ends within that many seconds; it is not reaped, so its process number stays in use."""
    end, pause = time.monotonic() + limit, 0.01
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)
    return False


def _end(child: int) -> int:
    """End a child and everything it started, unless it has ended; it may not have its process group yet."""
    for end in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            end(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _child(root: Path, arguments: Sequence[str], plugin: Any, log: Path) -> NoReturn:
    code = 3
    try:
        os.setsid()
        os.chdir(root)
        source = str(root / "src")
        os.environ |= {"PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str(root.parent / "numba")}
        sys.path[:] = [source, *(p for p in sys.path if p not in ("", str(Path.cwd())))]
        importlib.invalidate_caches()
        with log.open("w") as out, redirect_stdout(out), redirect_stderr(out):
            spec = importlib.util.find_spec("sharpmin")
            if spec is None or not str(spec.origin).startswith(source):
                raise RuntimeError(f"mutants: sharpmin would be imported from {spec and spec.origin}, not from the copy")
            code = int(pytest.main([*OPTIONS, *arguments], plugins=[plugin]))
    except BaseException:
        with log.open("a") as out:
            traceback.print_exc(file=out)
    finally:
        os._exit(code)


@dataclass
class Chosen:
    """A plugin: these tests only, in this order."""

    order: Mapping[str, int]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the chosen ones."""
        kept = [item for item in items if item.nodeid in self.order]
        items[:] = sorted(kept, key=lambda item: self.order[item.nodeid])


@dataclass
class Watching:
    """A plugin: writes down which functions of the source each test that passes calls, and how long it takes."""

    root: str
    to: Path
    _calls: set[str] = field(default_factory=set)
    _passed: bool = True

    def _trace(self, frame: Any, event: str, arg: Any) -> None:
        code = frame.f_code
        if code.co_filename.startswith(self.root):
            self._calls.add(f"{code.co_filename[len(self.root) :]}:{code.co_qualname}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        """Setup, call and teardown of a test."""
        self._calls, self._passed = set(), True
        began = time.perf_counter()
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            if self._passed:
                row = {"test": item.nodeid, "seconds": time.perf_counter() - began, "calls": sorted(self._calls)}
                with self.to.open("a") as rows:
                    rows.write(json.dumps(row) + "\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that fails or is skipped tells nothing of a mutant."""
        self._passed = self._passed and report.outcome == "passed"
