"""An interrupt at every point of a step at which Python looks for signals: after calls, at the start of a function, in loops.

A real signal comes at one of them, between two bytecodes; here each has its turn, as far as it lies in sharpmin's own code.
Before the base has stepped, w is back bit for bit (or refused until `abort()`), buffers and random numbers are where they were
or where one pass leaves them, and the same step is then the one by hand; after it, all is as if the step had been made.
"""

import argparse
import dis
import os
import sys
from collections import Counter
from functools import cache
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any

import torch

import sharpmin as sm

from .fuses import ByHand, Ours

DOORS = ("block", "guarded", "closure", "raw", "two_step")
LEFT_TO_THE_LOOP = ("raw", "two_step")
OURS = os.path.dirname(sm.__file__) + os.sep
LOOKS = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD", "SEND"}
Point = tuple[CodeType, int]


class Interrupt(BaseException):
    """What a signal raises."""


@cache
def boundaries(code: CodeType) -> frozenset[int]:
    """The instructions before which a signal may be seen."""
    plain = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "PRECALL")]
    return frozenset(after.offset for step, after in pairwise(plain) if step.opname in LOOKS)


def own(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(OURS)


class Counting:
    """Traces a step: how often each point is passed."""

    def __init__(self) -> None:
        self.points: Counter[Point] = Counter()

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not own(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.local

    def local(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and frame.f_lasti in boundaries(frame.f_code):
            self.points[frame.f_code, frame.f_lasti] += 1
        return self.local


class Raising(Counting):
    """Raises when a point is passed for the n-th time."""

    def __init__(self, point: Point, left: int):
        super().__init__()
        self.point, self.left = point, left

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        return super().__call__(frame, event, arg) if frame.f_code is self.point[0] else None

    def local(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and frame.f_lasti == self.point[1]:
            self.left -= 1
            if self.left < 0:
                sys.settrace(None)
                raise Interrupt
        return self.local


def traced(run: Ours, i: int, trace: Counting) -> bool:
    """One step under a trace; whether it came to its end."""
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run.step(i)
    except Interrupt:
        return False
    finally:
        sys.settrace(before)
    return True


def equal(one: list, other: list) -> bool:
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Pair:
    """A run by sharpmin and one by hand, from the same start."""

    def __init__(self, door: str, steps: int):
        self.door, self.at = door, 0
        self.ours, self.hand = Ours(door, scaled=False), ByHand()
        for _ in range(steps):
            self.both()

    def both(self) -> None:
        """A good step of each."""
        self.ours.step(self.at)
        found = self.ours.moved()
        self.hand.step(self.at)
        self.at += 1
        self.require(found)

    def require(self, found: tuple) -> None:
        wanted = self.hand.moved()
        if not equal(self.ours.weights(), self.hand.weights()):
            raise AssertionError("the weights are not those of the loop by hand")
        if not (equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1]) and equal(found[2], wanted[2])):
            raise AssertionError("buffers, random numbers or the state of the base are not those of the loop by hand")

    def interrupt(self, point: Point, left: int) -> str:
        """The step, interrupted, and then made; what became of the interrupt."""
        w, before, memory = self.ours.weights(), self.ours.moved(), self.memory()
        raising = Raising(point, left)
        if traced(self.ours, self.at, raising):
            found = self.ours.moved()
            self.hand.step(self.at)
            self.at += 1
            self.require(found)
            return "swallowed, and the step was made" if raising.left < 0 else "not passed this time"
        if not torch.is_grad_enabled():
            torch.set_grad_enabled(True)
            raise AssertionError("gradients are left switched off")
        if self.ours.fuse.calls["base before"]:
            self.after_the_base(memory)
            return "after the step of the base"
        said = self.require_w(w)
        buffers, random, _ = self.ours.moved()
        self.put_buffers(before[0])
        self.both()
        start = torch.Generator().manual_seed(100 + self.at - 1).get_state()
        moved = self.hand.moved()
        if not any(torch.equal(random, own) for own in (start, moved[1])):
            raise AssertionError("the random numbers are neither where they were nor where a pass leaves them")
        if not any(equal(buffers, own) for own in (before[0], moved[0])):
            raise AssertionError("the buffers are neither what they were nor what a pass makes of them")
        return said

    def require_w(self, w: list[torch.Tensor]) -> str:
        """The weights are w, or every step is refused until `abort()`, which a loop calls that makes its own way up."""
        moved = not equal(self.ours.weights(), w)
        if moved and self.door not in LEFT_TO_THE_LOOP:
            raise AssertionError("the weights are not w after the block or the closure was interrupted")
        if moved:
            try:
                self.ours.opt.step()
            except sm.PhaseError:
                pass
            else:
                raise AssertionError("a step was made from weights that are not w")
        if self.door in LEFT_TO_THE_LOOP:
            self.ours.opt.abort()
        if not equal(self.ours.weights(), w):
            raise AssertionError("abort() has not brought w back")
        return "refused until abort()" if moved else "w bit for bit"

    def memory(self) -> tuple[int, list[torch.Tensor | None]]:
        """The count of steps, and the averages of the ascent."""
        passes = self.ours.opt._passes
        return passes.groups.count(), [passes.state.memory.ascent.get(p) for p in self.ours.net.parameters()]

    def after_the_base(self, memory: tuple[int, list]) -> None:
        """The base has stepped; what SAM remembers is that of before, or that of after."""
        mean = self.hand.mean
        self.hand.step(self.at)
        self.at += 1
        self.require(self.hand.moved())
        count, kept = self.memory()
        if count not in (memory[0], self.hand.count):
            raise AssertionError("the count of steps is neither that of before nor that of after")
        old = equal(kept, memory[1])
        if not old and not equal(kept, self.hand.mean):
            raise AssertionError("what the ascent remembers is neither that of before nor that of after")
        self.hand.count, self.hand.mean = count, mean if old else self.hand.mean
        self.put_buffers(self.hand.moved()[0])
        self.both()

    def put_buffers(self, values: list[torch.Tensor]) -> None:
        for b, value in zip(self.ours.net.buffers(), values, strict=True):
            b.copy_(value)


def interrupts(door: str, *, first: bool, stride: int = 1, offset: int = 0) -> tuple[Counter[str], list[str]]:
    """Every `stride`-th point of a first or a later step; what became of them, and what went wrong."""
    counting = Counting()
    traced(Pair(door, 0 if first else 2).ours, 0 if first else 2, counting)
    counts, wrong, pair = Counter[str](), [], Pair(door, 2)
    for i, (point, often) in list(enumerate(counting.points.items()))[offset::stride]:
        pair = Pair(door, 0) if first else pair
        try:
            counts[pair.interrupt(point, i % often)] += 1
        except Exception as error:  # any is a finding
            line = next(own for start, end, own in reversed(list(lines(point[0]))) if start <= point[1] < end)
            where = f"{point[0].co_filename}:{line}, {point[0].co_qualname} at {point[1]}, pass {i % often} of {often}"
            wrong.append(f"{where}: {type(error).__name__}: {error}")
            pair = Pair(door, 2)
    return counts, wrong


def lines(code: CodeType) -> Any:
    return ((start, end, line or 0) for start, end, line in code.co_lines())


def main(options: argparse.Namespace) -> int:
    """All points, by every door."""
    sys.unraisablehook, bad = lambda _: None, 0  # one that comes in a finalizer is swallowed
    for door in DOORS:
        for first in (True, False):
            counts, wrong = interrupts(door, first=first)
            bad += len(wrong)
            told = ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
            head = f"{door}, {'first' if first else 'later'} step: {counts.total() + len(wrong)} points: {told}"
            sys.stdout.write("\n  ".join([head, *wrong]) + "\n")
            sys.stdout.flush()
    sys.stdout.write(f"{bad} failed\n")
    return 1 if bad else 0
