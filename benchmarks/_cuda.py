"""The cases of `step_overhead.py --device cuda`: the cost of a SAM step on a GPU beyond its two passes, in time and memory.

Floor, interleaving and ratio are as on the CPU. What is different:

- The host runs ahead of a GPU, so a measurement is `STEPS` steps and one synchronization, and its time is divided by them.
- All methods step one net, with one base optimizer: copies of a large one would not fit. The learning rate is next to nothing.
- `watch` sketches two steps of every eight: its ratio is the mean over the places in that cycle, of medians.
- Peak memory is that of one step of a method alone, with a base of its own, after a step that made its state.
- Before anything is timed, three steps at a real learning rate must lead all methods to the same weights, on the MLP.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from _common import measure, quiet, require_agreement, summary, watching
from _cuda_cases import CASES, Case, DeviceTask, on_device
from _methods import EVERY, METHODS, RHO, Method, Step, block, two_step
from _nets import CASES as ON_CPU
from _nets import Task, prepare
from torch import Tensor

STEPS = 5  # between two synchronizations
MIB = 2**20


# --- the methods --------------------------------------------------------------------------------------------------------


def bare_foreach(task: Task) -> Step:
    """A SAM step with the fewest kernel launches: one norm, copy, scale, add, copy back, in fused calls.

    It scales the user's gradients in place, supports one group on one device, and does not check for inf.
    """
    base, params = task.base(), list(task.net.parameters())

    def step() -> None:
        base.zero_grad(set_to_none=True)
        task.passes()
        with torch.no_grad():
            grads = [p.grad for p in params]
            copies = [torch.empty_like(p) for p in params]
            scale = RHO / torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
            torch._foreach_copy_(copies, params)
            torch._foreach_mul_(grads, scale)
            torch._foreach_add_(params, grads)
        base.zero_grad(set_to_none=True)
        task.passes()
        with torch.no_grad():
            torch._foreach_copy_(params, copies)
        base.step()

    return step


def pytorch_optimizer(task: Task) -> Step:
    """The SAM of pytorch_optimizer, by closure; it constructs its own base optimizer."""
    from pytorch_optimizer import SAM

    base = task.base()
    options = {key: base.defaults[key] for key in ("lr", "momentum", "fused") if base.defaults.get(key) is not None}
    opt = SAM(list(task.net.parameters()), type(base), rho=RHO, **options)

    def closure() -> Tensor:
        opt.zero_grad()
        return task.passes()

    def step() -> None:
        closure()
        opt.step(closure)

    return step


PEERS = {"pytorch_optimizer": Method(pytorch_optimizer)}  # the name of the module
OURS = {
    **{name: METHODS[name] for name in ("floor", "floor again", "base alone")},
    "two-step wrapper": Method(two_step, like=None),
    "bare foreach": Method(bare_foreach),
    "SAM": Method(block),
    "SAM model=": Method(partial(block, options=lambda net: {"model": net})),
    "SAM skip_nonfinite": Method(partial(block, options=lambda net: {"skip_nonfinite": True})),
    "SAM telemetry": Method(partial(block, options=lambda net: {"telemetry": True})),
    "SAM watch": Method(partial(block, watch=EVERY)),
}


def installed(module: str | None) -> bool:
    return module is None or importlib.util.find_spec(module) is not None


def methods() -> dict[str, Method]:
    """sharpmin's methods, and those of the other packages that are installed."""
    return {**OURS, **{name: method for name, method in PEERS.items() if installed(name)}}


# --- the clock ----------------------------------------------------------------------------------------------------------


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def several(step: Step, device: str) -> Step:
    """`STEPS` steps and one synchronization."""

    def steps() -> None:
        for _ in range(STEPS):
            step()
        wait(device)

    return steps


def peak(method: Method, task: DeviceTask) -> float | None:
    """The peak memory of one step in MiB; None on a CPU, where torch does not measure it."""
    if task.x.device.type == "cpu":
        return None
    task = replace(task, own=None)
    step = method.make(task)
    step()
    wait("cuda")
    task.net.zero_grad(set_to_none=True)
    torch.cuda.reset_peak_memory_stats()
    step()
    wait("cuda")
    return torch.cuda.max_memory_allocated() / MIB


def run(name: str, case: Case, device: str, rounds: int | None, seed: int) -> dict[str, Any]:
    """Measure one net."""
    task, count, timed = on_device(case, device, seed), rounds or case.rounds, methods()
    seconds = measure({k: several(method.make(task), device) for k, method in timed.items()}, count, seed)
    seconds = {k: v / STEPS for k, v in seconds.items()}
    rows: dict[str, Any] = {k: summary(v, seconds["floor"], seed) for k, v in seconds.items()}
    rows["SAM watch"]["cycle"] = watching(seconds["SAM watch"] / seconds["floor"]) + 1
    task.own = None
    for key, method in timed.items():
        gc.collect()  # frees the memory of the method before
        rows[key]["peak"] = peak(method, task)
    sizes = [p.numel() for p in task.net.parameters()]
    return {"net": name, "tensors": len(sizes), "parameters": sum(sizes), "rounds": count, "steps": STEPS,
            "target": case.target, "quiet": quiet(rows["floor again"]), "methods": rows}  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """One net as a table."""
    print("\n{net}: {tensors} tensors, {parameters:,} parameters, {rounds} rounds of {steps} steps".format(**result))
    print(f"  {'method':20}{'ms':>9}{'ratio':>8}  {'95 % interval':15}{'peak MiB':>10}")
    for name, row in result["methods"].items():
        ratio, memory = row.get("cycle", row["ratio"]), row["peak"]
        between = f"{row['low']:.3f} .. {row['high']:.3f}"
        print(f"  {name:20}{row['ms']:9.3f}{ratio:8.3f}  {between:15}{'-' if memory is None else f'{memory:.0f}':>10}")
    noise = "" if result["quiet"] else "; too noisy to count: see the floor against itself"
    print(f"  to reach: SAM {result['target']:.2f}{noise}", flush=True)


def check(device: str, seed: int) -> None:
    """Stop unless every method computes the weights that it should."""
    new = prepare(ON_CPU["mlp"], seed)

    def task(lr: float, dtype: torch.dtype = torch.float32) -> Task:
        own = new(lr, dtype)
        return Task(own.net.to(device), own.x.to(device), own.y.to(device), lr)

    require_agreement(task, methods())


def about(device: str) -> str:
    """The GPU and the versions of torch and CUDA."""
    card = "a CPU" if device == "cpu" else torch.cuda.get_device_name()
    return f"{card}, torch {torch.__version__}, CUDA {torch.version.cuda}"


def main(nets: Sequence[str] | None, rounds: int | None, seed: int, device: str = "cuda") -> dict[str, Any]:
    """Check, then measure and print the nets one by one; returns all numbers.

    Raises:
        SystemExit: without a GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda needs a GPU that torch can use; there is none here")
    if device == "cuda":  # the usual setting on such a GPU
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    print(about(device))
    absent = [name for name in PEERS if not installed(name)]
    print("".join(f"{name}: not installed\n" for name in absent), end="")
    check(device, seed)
    results = []
    for name in nets or CASES:
        case = CASES[name]
        if not installed(case.needs):
            print(f"\n{name}: {case.needs} is not installed")
            continue
        try:
            results.append(run(name, case, device, rounds, seed))
        except torch.OutOfMemoryError:
            print(f"\n{name}: not enough memory on this card")
            continue
        show(results[-1])
    return {"device": about(device), "absent": absent, "nets": results}
