"""Is one compiled loop for "copy w, then add e" faster on a CPU? It reads w once, where two calls of torch read it twice.

    python benchmarks/fused_displacement.py [--rounds N] [--seed 0]

Streams over all weights, a write into memory that is not in the cache counted as two: copy 3 + add 3 in two calls, 5 in one
loop. Compared, in random order, each after 128 MB of other memory has gone through the cache: torch's two calls on whole
lists (what sharpmin does), the same by pieces that stay in the cache, and the loop by numba (extra `lab`) over the addresses
of all tensors. All must leave the same weights, to the last bit or, where the compiler forms a * b + c in one rounding and
torch does not, to one. One thread.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from _nets import CASES
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

FACTOR, PIECE, OTHER = 1e-3, 131_072, 2**25


@intrinsic
def _floats_at(typing: Any, address: Any) -> Any:
    """A pointer from an address."""
    signature = types.CPointer(types.float32)(types.uint64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, code


@numba.njit(fastmath={"contract"})
def _loop(weights: Any, vectors: Any, copies: Any, sizes: Any, factor: Any) -> None:
    for i in range(len(sizes)):
        w, v, copy = (
            numba.carray(_floats_at(weights[i]), sizes[i]),
            numba.carray(_floats_at(vectors[i]), sizes[i]),
            numba.carray(_floats_at(copies[i]), sizes[i]),
        )
        for j in range(sizes[i]):
            own = w[j]
            copy[j] = own
            w[j] = own + factor * v[j]


def ways(weights: list[Tensor]) -> dict[str, Callable[[], None]]:
    """The three ways, each with its own weights."""

    def two_calls(w: list[Tensor], v: list[Tensor], copies: list[Tensor]) -> Callable[[], None]:
        def run() -> None:
            torch._foreach_copy_(copies, w)
            torch._foreach_add_(w, v, alpha=FACTOR)

        return run

    def by_pieces(w: list[Tensor], v: list[Tensor], copies: list[Tensor]) -> Callable[[], None]:
        rows = [
            row for ts in zip(w, v, copies, strict=True) for row in zip(*(t.view(-1).split(PIECE) for t in ts), strict=True)
        ]

        def run() -> None:
            for own, step, copy in rows:
                copy.copy_(own)
                own.add_(step, alpha=FACTOR)

        return run

    def one_loop(w: list[Tensor], v: list[Tensor], copies: list[Tensor]) -> Callable[[], None]:
        held = (w, v, copies)  # keeps their memory alive
        places = [np.array([t.data_ptr() for t in ts], np.uint64) for ts in held]
        sizes = np.array([t.numel() for t in w])
        return lambda: _loop(*places, sizes, np.float32(FACTOR)) if held else None

    made = {}
    for name, make in {"two calls": two_calls, "by pieces": by_pieces, "one loop": one_loop}.items():
        own = [w.clone() for w in weights]
        made[name] = (own, make(own, [torch.full_like(w, 0.3) for w in own], [torch.empty_like(w) for w in own]))
    for _, run in made.values():
        run()
    (first, _), *others = made.values()
    for other, _ in others:
        if not all(torch.allclose(a, b, rtol=1e-6, atol=0) for a, b in zip(first, other, strict=True)):
            raise SystemExit("the ways disagree: nothing is timed")
    return {name: run for name, (_, run) in made.items()}


@torch.no_grad()
def main() -> None:
    """Print one line per net: milliseconds and the ratio to torch's two calls."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shuffle, other = random.Random(options.seed), torch.zeros(OTHER)
    for net, case in CASES.items():
        torch.manual_seed(options.seed)
        runs = ways([p.detach() for p in case.net().parameters()])
        took: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name in shuffle.sample(list(runs), len(runs)):
                other.add_(1.0)
                begin = time.perf_counter()
                runs[name]()
                took[name].append(time.perf_counter() - begin)
        base = np.array(took["two calls"])
        print(
            f"{net:12}",
            *(f"{k} {1e3 * np.median(v):6.2f} ms ({np.median(v / base):.2f})  " for k, v in took.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
