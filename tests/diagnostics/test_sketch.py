"""The sketch is linear, adds up over shards, and keeps inner products on average, whatever the vectors look like."""

from itertools import pairwise

import pytest
import torch

from sharpmin.diagnostics import Sketch
from sharpmin.diagnostics.sketch import BUCKETS, places

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
    assert places([100, 200, 16_384, 1]) == [0, 100, 300, 16_684]
    assert Sketch()([]).tolist() == [0.0] * BUCKETS


def test_half_a_megabyte_of_state():
    sketch = Sketch()
    sketch([VECTORS["noise"].float()])
    held = sketch._signs.nbytes + sum(t.nbytes for t in sketch._cast.values())
    assert held <= 700_000
