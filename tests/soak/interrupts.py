"""Real signals at random moments of a step: whatever they interrupt, w comes back bit for bit, and the next step is right.

A timer raises `KeyboardInterrupt` between two bytecodes of a step, once or twice. The base's own step is not SAM's: one that
was interrupted inside it is only rolled back, from a checkpoint, as a user would.
"""

import argparse
import copy
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

import sharpmin as sm

from .beside import Beside, Mismatch
from .draw import STEPS, Case, draw
from .oracle import Oracle, Unclear
from .run import Run, bits

TRIES = 6
BY_HAND = ("raw", "two-step")  # these doors leave the way back to the loop: it calls abort()


class Timer:
    """Raises in the main thread, `left` times at most."""

    def __init__(self) -> None:
        self.left = 0
        signal.signal(signal.SIGALRM, self.ring)

    def ring(self, *_: object) -> None:
        if self.left > 0:
            self.left -= 1
            raise KeyboardInterrupt

    def interrupts(self, run: Run, delay: float, again: float) -> bool:
        """Whether it has interrupted a step, after `delay` seconds and, if that is positive, `again` later."""
        hit = True
        try:
            try:
                self.left = 2 if again else 1
                signal.setitimer(signal.ITIMER_REAL, delay, again)
                run.step()
                hit = False
            except KeyboardInterrupt:
                pass
        except KeyboardInterrupt:  # the second one
            pass
        finally:
            self.left = 0
            signal.setitimer(signal.ITIMER_REAL, 0)
        return hit


class Tries:
    """The steps of one case, each interrupted several times before it is made."""

    def __init__(self, case: Case, timer: Timer, rnd: random.Random, counts: Counter[str]):
        self.case, self.timer, self.rnd, self.counts = case, timer, rnd, counts
        self.both, self.where = Beside(Run(case), Oracle(case)), "before"
        base = self.both.run.opt.base
        base.register_step_pre_hook(lambda *_: setattr(self, "where", "inside"))
        base.register_step_post_hook(lambda *_: setattr(self, "where", "after"))

    def step(self, t: int, long: float) -> None:
        """The step t, which takes about so long."""
        run, oracle = self.both.run, self.both.oracle
        run.t = t
        for _ in range(TRIES):
            model, opt = copy.deepcopy((run.model.state_dict(), run.opt.state_dict()))
            was, self.where = [bits(p) for p in run.ps], "before"
            twice = self.rnd.random() < 0.25
            again = self.rnd.uniform(5e-6, 3e-4) if twice else 0.0
            hit = self.timer.interrupts(run, max(1e-6, self.rnd.random() * long), again)
            if not hit:
                self.counts["too late: the step was made"] += 1
                self.both.compare(t, oracle.step(t))
                return
            if not torch.is_grad_enabled():  # torch.no_grad() was interrupted at its end, in a step of anybody's
                self.counts[f"torch was left without gradients, {self.where} the step of the base"] += 1
                torch.set_grad_enabled(True)
            self.counts[f"tried {self.case['door']}{', twice' if twice else ''}"] += 1
            self.counts[f"interrupted {self.where} the step of the base"] += 1
            if self.where == "before":
                self.require_w(was, twice=twice)
            else:
                run.opt.abort()
                run.model.load_state_dict(model)
                run.opt.load_state_dict(opt)
            oracle.there, oracle.seen = [p.grad is not None for p in run.ps], run.model.seen.item()
        self.both.step(t)

    def require_w(self, was: list[bytes], *, twice: bool) -> None:
        """Every weight is w, or every step is refused until `abort()` has brought w back."""
        run = self.both.run
        now = [bits(p) for p in run.ps]
        if now != was:
            if self.case["door"] not in BY_HAND and not twice:
                raise Mismatch("the weights are not w after the block or the closure has been interrupted")
            self.counts["refused until abort()"] += 1
            try:
                run.opt.step()
            except sm.PhaseError:
                pass
            else:
                raise Mismatch("a step was made from weights that are not w")
        run.opt.abort()
        if [bits(p) for p in run.ps] != was:
            raise Mismatch("abort() has not brought w back")
        self.counts["w bit for bit"] += 1


def quiet(seed: int) -> Case:
    """A case without events of its own, in float64."""
    case = draw(seed)
    for name in ("restart", "exception", "not finite", "change of rho"):
        case.choices[name] = None
    for weight in case.weights:
        weight.dtype = "complex128" if weight.kind == "complex" else "float64"
    seen = "watcher" if case["seen"] == "watch" else case["seen"]
    case.choices |= {"dtype": "float64", "scheduler": False, "seen": seen, "scaler": False}
    return case


def interrupted(seed: int, timer: Timer, counts: Counter[str]) -> str | None:
    """All steps of a case, interrupted; what went wrong."""
    case, t = quiet(seed), -1
    tries = Tries(case, timer, random.Random(seed), counts)
    try:
        probe = Run(case)
        probe.step()
        begin = time.perf_counter()
        probe.step()
        long = time.perf_counter() - begin
        for t in range(STEPS):
            tries.step(t, long)
    except Unclear:
        pass
    except Exception as error:  # any is a finding
        return f"step {t}, interrupted {tries.where} the step of the base: {type(error).__name__}: {error}"
    return None


def main(options: argparse.Namespace) -> int:
    """In a child, so that a signal that nobody catches ends nothing else."""
    if not options.child:
        own = {name: getattr(options, name) for name in ("minutes", "seed", "cases", "case")}
        given = [f"--{name}={value}" for name, value in own.items() if value is not None]
        go_on = ["--go-on"] if options.go_on else []
        command = [sys.executable, "-m", "soak", "--interrupts", "--child", *given, *go_on]
        return subprocess.run(command, check=False, cwd=Path(__file__).parents[1]).returncode
    warnings.simplefilter("ignore")
    counts, lost, timer = Counter[str](), [], Timer()
    sys.unraisablehook = lambda raised: counts.update(["swallowed"]) if raised.exc_type is KeyboardInterrupt else None
    end, bad = time.monotonic() + 60 * options.minutes, 0
    seeds = [options.case] if options.case is not None else range(options.seed, options.seed + (options.cases or 10**9))
    for seed in seeds:
        if time.monotonic() > end:
            break
        error = interrupted(seed, timer, counts)
        counts["cases"] += 1
        if error is not None:
            bad += 1
            lost.append(f"case {seed} failed at {error}\n{quiet(seed).describe()}\n")
            if not options.go_on:
                break
    tried = sum(n for name, n in counts.items() if name.startswith("tried"))
    sys.stdout.write("".join(lost) + "".join(f"  {name}: {n}\n" for name, n in sorted(counts.items())))
    sys.stdout.write(f"{tried} interrupts tried in {counts['cases']} cases, {bad} failed\n")
    return 1 if bad else 0
