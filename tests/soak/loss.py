"""The loss of the soak in torch and in NumPy: rows of residuals over all parameters, new ones in every micro-batch.

f = mean over rows of mask (log cosh r + r^2 / 4), r = sum <A, w> - b, plus a tenth of sum log cosh w; over all micro-batches.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from .draw import Case, Weight

ROWS = 4
EXTENTS = {
    **{"vector": (3,), "matrix": (2, 3), "scalar": (), "empty": (0, 2), "strided": (3, 2), "transposed": (3, 2)},
    **{"channels-last": (2, 3, 2, 2), "tied": (2, 2), "sparse": (4, 2), "complex": (3,)},
}
LOOKED_UP = torch.tensor([0, 2, 2])  # the rows of an embedding, whose gradient is sparse
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
DTYPES |= {"complex64": torch.complex64, "complex128": torch.complex128}


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """As a tensor of that dtype would have it, in float64."""
    if dtype in ("float64", "complex128"):
        return array
    return in_numpy(torch.from_numpy(np.ascontiguousarray(array)).to(DTYPES[dtype])).reshape(array.shape)


def in_numpy(t: torch.Tensor) -> np.ndarray:
    """A copy in twice the digits."""
    return t.detach().to(torch.complex128 if t.is_complex() else torch.float64).numpy().copy()


def normal(draw: np.random.Generator, kind: str, *rows: int) -> np.ndarray:
    """Numbers for a parameter of that kind."""
    real = draw.normal(size=(*rows, *EXTENTS[kind]))
    return np.asarray(real + 1j * draw.normal(size=real.shape) if kind == "complex" else real)


def tanh(x: np.ndarray) -> np.ndarray:
    """Of both parts of complex numbers."""
    return np.tanh(x.real) + 1j * np.tanh(x.imag) if np.iscomplexobj(x) else np.tanh(x)


def start(case: Case) -> list[np.ndarray]:
    """The weights before the first step."""
    draw = np.random.default_rng([case.seed, 1])
    return [rounded(normal(draw, w.kind), w.dtype) for w in case.weights]


def parameter(weight: Weight, array: np.ndarray) -> nn.Parameter:
    """In the memory that its kind asks for."""
    t = torch.from_numpy(array.copy()).to(DTYPES[weight.dtype])
    if weight.kind == "strided":
        t = torch.zeros(3, 4, dtype=t.dtype)[:, ::2].copy_(t)
    elif weight.kind == "transposed":
        t = t.t().contiguous().t()
    elif weight.kind == "channels-last":
        t = t.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(t, requires_grad=weight.thaws == 0)


def data(case: Case, t: int, micro: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The factors A of each parameter, and b."""
    return _data(case.seed, t, micro, tuple(w.kind for w in case.weights))


@lru_cache(maxsize=64)
def _data(seed: int, t: int, micro: int, kinds: tuple[str, ...]) -> tuple[list[np.ndarray], np.ndarray]:
    draw = np.random.default_rng([seed, 2, t, micro])
    factors = [normal(draw, kind, ROWS) / max(1.0, np.prod(EXTENTS[kind])) ** 0.5 for kind in kinds]
    return [a * looked_up(kind) for a, kind in zip(factors, kinds, strict=True)], draw.normal(size=ROWS)


def looked_up(kind: str) -> np.ndarray:
    """1 for the rows of a parameter that the loss sees."""
    return np.array([[1.0], [0.0], [1.0], [0.0]]) if kind == "sparse" else np.ones(())


def seen(p: torch.Tensor, a: torch.Tensor, kind: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Shares of the products with the factors a, and what the loss sees of the parameter."""
    if kind == "sparse":
        rows = nn.functional.embedding(LOOKED_UP, p, sparse=True).double()
        shares = torch.tensor([1.0, 0.25, 0.75], dtype=torch.float64).view(3, 1)
        return [a[:, LOOKED_UP] * shares * rows], rows[:2]
    if kind == "complex":
        return [torch.real(a * p)], torch.view_as_real(p).double()
    return [half * p.double() for half in ((0.25 * a, 0.75 * a) if kind == "tied" else (a,))], p.double()


def masks(case: Case, t: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Which rows count in each micro-batch, in the first and the second pass, by torch's default generator."""
    count = case["micro-batches"]
    if not case["noise"]:
        return [np.ones(ROWS)] * count, [np.ones(ROWS)] * count
    draw = torch.Generator().manual_seed(noise_seed(case, t))
    drawn = [torch.rand(ROWS, generator=draw).gt(0.3).double().numpy() for _ in range(2 * count)]
    again = not case.one_pass and (case["clean"] or case.apart or case["door"] == "closure")
    return drawn[:count], drawn[:count] if again else drawn[count:]


def noise_seed(case: Case, t: int) -> int:
    return case.seed * 100 + t


def gradients(
    case: Case, t: int, w: list[np.ndarray], own: list[np.ndarray], reached: list[bool], micros: range
) -> list[np.ndarray | None]:
    """By hand, summed over these micro-batches; None where the loss does not reach. `own` are the masks."""
    total: list[np.ndarray | None] = [None] * len(w)
    for micro in micros:
        mask = own[micro]
        factors, b = data(case, t, micro)
        r = sum((a * x).real.reshape(ROWS, -1).sum(1) for a, x, on in zip(factors, w, reached, strict=True) if on) - b
        share = mask * (np.tanh(r) + 0.5 * r) / ROWS
        for i, (a, x, on, weight) in enumerate(zip(factors, w, reached, case.weights, strict=True)):
            if on:
                more = (np.tensordot(share, a.conj(), axes=1) + 0.1 * tanh(x) * looked_up(weight.kind)) / len(own)
                total[i] = more if total[i] is None else total[i] + more
    return [None if g is None else rounded(np.asarray(g), v.dtype) for g, v in zip(total, case.weights, strict=True)]


def backward(
    case: Case,
    t: int,
    ps: list[torch.Tensor],
    reached: list[bool],
    micros: range,
    scale: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """In torch, micro-batch by micro-batch; noise comes from the default generator."""
    count = case["micro-batches"]
    for micro in micros:
        factors, b = data(case, t, micro)
        mask = torch.rand(ROWS).gt(0.3).double() if case["noise"] else torch.ones(ROWS, dtype=torch.float64)
        r, small = -torch.from_numpy(b), torch.zeros((), dtype=torch.float64)
        for p, a, weight, on in zip(ps, map(torch.from_numpy, factors), case.weights, reached, strict=True):
            if on:
                shares, x = seen(p, a, weight.kind)
                r = r + sum(share.reshape(ROWS, -1).sum(1) for share in shares)
                small = small + torch.log(torch.cosh(x)).sum()
        loss = (mask * (torch.log(torch.cosh(r)) + 0.25 * r**2)).mean() + 0.1 * small
        scale(loss / count).backward()
