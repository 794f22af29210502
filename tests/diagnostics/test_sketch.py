"""The sketch is linear, adds up over shards, and keeps inner products on average, whatever the vectors look like."""

from itertools import pairwise

import pytest
import torch

from sharpmin.diagnostics import Sketch
from sharpmin.diagnostics._run.sketch import BUCKETS, places

N = 300_000
VECTORS = {
    "noise": torch.randn(N, generator=torch.Generator().manual_seed(1)).double(),
    "constant": torch.ones(N, dtype=torch.float64),
    "low rank": torch.outer(torch.linspace(-1, 1, 500), torch.cos(torch.arange(600.0))).reshape(-1).double(),
    "spike": torch.zeros(N, dtype=torch.float64).index_fill(0, torch.tensor([123_456]), 5.0),
}


def test_it_is_linear_whatever_the_shapes():
    shapes = [(3,), (70_000,), (20, 30), (), (17_000,), (256, 300)]
    a, b = ([torch.randn(s, generator=torch.Generator().manual_seed(k)).double() for s in shapes] for k in (1, 2))
    sketch = Sketch()
    both = sketch([2 * x - 3 * y for x, y in zip(a, b, strict=True)])
    assert torch.allclose(both, 2 * sketch(a) - 3 * sketch(b), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("cuts", [[1], [255], [256], [100_000], [65_536, 65_537, 200_001]])
def test_shards_that_know_their_place_add_up(cuts):
    sketch, whole = Sketch(3), VECTORS["noise"]
    edges = [0, *cuts, N]
    parts = sum(sketch([whole[low:high]], starts=[low]) for low, high in pairwise(edges))
    assert torch.allclose(parts, sketch([whole]), rtol=1e-12, atol=1e-9)


def test_each_entry_has_one_bucket_and_one_sign():
    sketch = Sketch()
    for entry in (0, 255, 256, 65_535, 65_536, 299_999):
        one = torch.zeros(N)
        one[entry] = 2.0
        found = sketch([one])
        assert found.abs().tolist() == [2.0 if bucket == entry % BUCKETS else 0.0 for bucket in range(BUCKETS)]


@pytest.mark.parametrize("left", VECTORS)
@pytest.mark.parametrize("right", VECTORS)
def test_inner_products_are_kept_on_average(left, right):
    """Over 200 seeds: the mean within 5 standard errors, the spread at most three times that of independent signs."""
    a, b = VECTORS[left], VECTORS[right]
    size = float(a.norm() * b.norm())
    errors = torch.tensor([float(s([a]) @ s([b]) - a @ b) / size for s in map(Sketch, range(200))])
    assert abs(errors.mean()) <= 5 * errors.std() / 200**0.5 + 1e-12
    assert errors.std() <= 3 / 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision(dtype):
    t = (VECTORS["noise"] * 8).round().clamp(-50, 50).to(dtype)  # integers that every format has
    assert torch.equal(Sketch()([t]), Sketch()([t.double()]))


def test_the_signs_depend_on_the_seed_only():
    assert torch.equal(Sketch(5)([VECTORS["noise"]]), Sketch(5)([VECTORS["noise"]]))
    assert not torch.equal(Sketch(5)([VECTORS["noise"]]), Sketch(6)([VECTORS["noise"]]))


def test_tensors_lie_side_by_side():
    assert places([torch.zeros(n) for n in (100, 200, 16_384, 1)]) == [0, 100, 300, 16_684]
    assert Sketch()([]).tolist() == [0.0] * BUCKETS


def test_less_than_a_megabyte_of_state():
    """Signs for float32 and float64 both, whatever the number of entries."""
    sketch = Sketch()
    for dtype in (torch.float32, torch.float64):
        for copies in (1, 4):
            sketch([VECTORS["noise"].to(dtype)] * copies)
    held = sketch._signs.nbytes + sum(t.nbytes for t in sketch._cast.values())
    assert held <= 900_000


SHAPES = {
    "none": [],
    "empty": [(0,), (2, 0)],
    "small": [(3,), (), (20, 30)],
    "mixed": [(3,), (70_000,), (20, 30), (0,), (17_000,), (), (256, 300), (5,)],
    "edges": [(32_768,), (32_767,), (1,), (65_537,)],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_two_gradients_in_one_read(name, dtype):
    """The sketches of each, and the products, against float64 over whole vectors."""
    draw = torch.Generator().manual_seed(2)
    g, big = ([torch.randn(s, generator=draw).to(dtype) for s in SHAPES[name]] for _ in range(2))
    sketch, exact = Sketch(4), [[t.double() for t in ts] for ts in (g, big)]
    d = [b - a for a, b in zip(*exact, strict=True)]
    of_g, of_d, products = sketch.compare(g, big)
    close = {"rtol": 1e-12, "atol": 1e-11} if dtype is torch.float64 else {"rtol": 1e-5, "atol": 1e-3}
    assert torch.allclose(of_g, sketch(exact[0]), **close)
    assert torch.allclose(of_d, sketch(d), **close)
    flat = [torch.cat([t.reshape(-1) for t in ts]) if ts else torch.zeros(0).double() for ts in (exact[0], d)]
    whole = torch.stack([flat[0] @ flat[0], flat[1] @ flat[0], flat[1] @ flat[1]])
    assert torch.allclose(products, whole, **close)
    assert {t.dtype for t in (of_g, of_d, products)} == {torch.float64}


def test_two_gradients_of_mixed_and_complex_entries():
    draw = torch.Generator().manual_seed(3)
    g, big = ([torch.randn(40, generator=draw), torch.randn(30, generator=draw, dtype=torch.complex64)] for _ in range(2))
    real = [[a, torch.view_as_real(b)] for a, b in (g, big)]
    for found, expected in zip(Sketch().compare(g, big), Sketch().compare(*real), strict=True):
        assert found.shape == expected.shape
    assert torch.allclose(Sketch().compare(g, big)[2], Sketch().compare(*real)[2])
