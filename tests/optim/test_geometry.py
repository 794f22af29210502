"""Every geometry against its definition in NumPy: ||v|| = ||v / T||_p on the coordinates that the mask lets through."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sharpmin.optim import L2, Context, Elementwise, Layerwise, LInf, Masked, matrices

SHAPES = [(), (1,), (3,), (0,), (2, 2), (2, 1, 2)]


def large(w):
    return w.abs() > 1


def eta(number):
    return lambda w: np.abs(w) + number


def of_layer(number):
    return lambda w: np.full(w.shape, np.sqrt((np.abs(w) ** 2).sum()) + number)


def on_matrices(scale):
    return lambda w: scale(w) if w.ndim >= 2 else np.ones(w.shape)


def ones(w):
    return np.ones(w.shape)


def through_matrices(w):
    return np.full(w.shape, w.ndim >= 2)


def through_large(w):
    return np.abs(w) > 1


GEOMETRIES = {  # name: geometry, p, T, mask
    "l2": (L2(), 2, ones, ones),
    "linf": (LInf(), math.inf, ones, ones),
    "elementwise": (Elementwise(), 2, eta(0.01), ones),
    "elementwise-0": (Elementwise(0.0), 2, eta(0.0), ones),
    "elementwise-matrices": (Elementwise(0.1, adapt=matrices), 2, on_matrices(eta(0.1)), ones),
    "layerwise": (Layerwise(), 2, of_layer(0.0), ones),
    "layerwise-matrices": (Layerwise(0.1, matrices), 2, on_matrices(of_layer(0.1)), ones),
    "masked": (Masked(large), 2, ones, through_large),
    "masked-bool": (Masked(matrices, L2()), 2, ones, through_matrices),
    "masked-linf": (Masked(large, LInf()), math.inf, ones, through_large),
    "masked-elementwise": (Masked(large, Elementwise(0.5)), 2, eta(0.5), through_large),
    "masked-layerwise": (Masked(matrices, Layerwise()), 2, of_layer(0.0), through_matrices),
}
every = pytest.mark.parametrize("name", GEOMETRIES)


class Definition:
    """The norm, the dual norm and the steepest direction of a geometry at the weights w, all flat NumPy."""

    def __init__(self, name, weights):
        _, self.p, scale, mask = GEOMETRIES[name]
        arrays = [w.detach().numpy() for w in weights]
        self.t = np.concatenate([scale(w).reshape(-1) for w in arrays])
        self.mask = np.concatenate([mask(w).reshape(-1) for w in arrays]).astype(bool)

    def norm(self, v):
        v, t = v[self.mask], self.t[self.mask]
        size = np.where(v == 0, 0.0, np.where(t == 0, math.inf, np.abs(v) / np.where(t == 0, 1, t)))
        return float(np.linalg.norm(size, self.p)) if size.size else 0.0

    def dual(self, a):
        return float(np.linalg.norm((self.t * a)[self.mask], 2 if self.p == 2 else 1)) if self.mask.any() else 0.0

    def steepest(self, a):
        a = np.where(self.mask, a, 0)
        return np.sign(a) if self.p == math.inf else self.t**2 * a / self.dual(a)


def flat(tensors):
    return np.concatenate([t.detach().numpy().reshape(-1) for t in tensors])


NUMBERS = st.floats(1e-3, 1e3).flatmap(lambda x: st.sampled_from([x, -x])) | st.just(0.0)


@st.composite
def lists(draw, count=3):
    """`count` lists of tensors of the same shapes: weights, vectors, ..."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4))
    columns = []
    for _ in range(count):
        values = [draw(st.lists(NUMBERS, min_size=math.prod(s), max_size=math.prod(s))) for s in shapes]
        columns.append([torch.tensor(v, dtype=torch.float64).reshape(s) for v, s in zip(values, shapes, strict=True)])
    return columns


def on_both_paths(test):
    return settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])(test)


def close(number):
    return pytest.approx(number, rel=1e-12)


@every
@on_both_paths
@given(drawn=lists())
def test_steepest_has_norm_one_and_attains_the_dual_norm(path, name, drawn):
    weights, vectors, others = drawn
    geometry, truth, a = GEOMETRIES[name][0], Definition(name, weights), flat(vectors)
    total = geometry.at(weights, vectors, Context()).measure()
    dual = float(geometry.dual_norm(total))
    assert dual == close(truth.dual(a))
    assert float(geometry.at(weights, others, Context()).norm(weights, others)) == close(truth.norm(flat(others)))
    assume(dual > 0)
    steepest = list(geometry.at(weights, vectors, Context()).steepest(total))
    v = flat(steepest)
    assert [s.shape for s in steepest] == [w.shape for w in weights]
    assert v == close(truth.steepest(a))
    assert (float(geometry.at(weights, steepest, Context()).norm(weights, steepest)), truth.norm(v)) == (close(1.0), close(1.0))
    assert a @ v == close(dual)


@every
@on_both_paths
@given(drawn=lists())
def test_no_vector_of_norm_one_climbs_more(path, name, drawn):
    """Hölder: <a, v> <= ||a||_* ||v||, for v on the coordinates that the mask lets through."""
    weights, vectors, others = drawn
    geometry, truth = GEOMETRIES[name][0], Definition(name, weights)
    v = np.where(truth.mask, flat(others), 0)
    norm = float(geometry.at(weights, others, Context()).norm(weights, others))
    dual = float(geometry.dual_norm(geometry.at(weights, vectors, Context()).measure()))
    if math.isfinite(norm) and norm > 0:  # else there is nothing to climb by, or no way to
        assert flat(vectors) @ v / norm <= dual * (1 + 1e-12) + 1e-300


@every
@on_both_paths
@given(drawn=lists(count=2), cut=st.integers(0, 4), factor=st.floats(1e-3, 1e3))
def test_measure_is_additive_and_the_rest_homogeneous(*, path, name, drawn, cut, factor):
    weights, vectors = drawn
    geometry = GEOMETRIES[name][0]
    total = geometry.at(weights, vectors, Context()).measure()
    parts = [geometry.at(weights[i], vectors[i], Context()).measure() for i in (slice(cut), slice(cut, None))]
    assert float(sum(parts)) == close(float(total))
    longer = [factor * a for a in vectors]
    stretched = geometry.at(weights, longer, Context()).measure()
    assert float(geometry.dual_norm(stretched)) == close(factor * float(geometry.dual_norm(total)))
    assume(float(total) > 0)
    v, again = (flat(geometry.at(weights, a, Context()).steepest(s)) for a, s in ((vectors, total), (longer, stretched)))
    assert again == close(v)


@every
def test_inputs_stay_as_they_are(path, name, bits):
    geometry = GEOMETRIES[name][0]
    weights, vectors = ([torch.randn(s, dtype=torch.float64) for s in SHAPES] for _ in range(2))
    was, versions = bits([weights, vectors]), [t._version for t in weights + vectors]
    v = list(geometry.at(weights, vectors, Context()).steepest(geometry.at(weights, vectors, Context()).measure()))
    geometry.at(weights, v, Context()).norm(weights, v)
    assert bits([weights, vectors]) == was
    assert [t._version for t in weights + vectors] == versions


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(path, name, dtype):
    """Gradients of 3e4: their squares, and sums, are beyond float16."""
    geometry = GEOMETRIES[name][0]
    weights = [(3 * torch.randn(s)).to(dtype) for s in [(8, 9), (5,)]]
    vectors = [(3e4 * torch.randn_like(w).sign()) for w in weights]
    truth = Definition(name, [w.double() for w in weights])
    total = geometry.at(weights, vectors, Context()).measure()
    a = flat([g.double() for g in vectors])
    v = list(geometry.at(weights, vectors, Context()).steepest(total))
    assert float(geometry.dual_norm(total)) == pytest.approx(truth.dual(a), rel=1e-5)
    assert flat([s.double() for s in v]) == pytest.approx(truth.steepest(a), rel=1e-5, abs=1e-9)
    assert {s.dtype for s in v} == {torch.float32}


@every
def test_a_geometry_is_a_value(name):
    geometry = GEOMETRIES[name][0]
    for twin in (copy.deepcopy(geometry), pickle.loads(pickle.dumps(geometry))):
        assert twin == geometry
        assert hash(twin) == hash(geometry)
    assert sum(geometry == other for other, *_ in GEOMETRIES.values()) == 1
    if "<function" not in repr(geometry):
        names = {"L2": L2, "LInf": LInf, "Elementwise": Elementwise, "Layerwise": Layerwise}
        assert eval(repr(geometry), names) == geometry
    with pytest.raises(AttributeError):
        geometry.eta = 1.0


@pytest.mark.parametrize("kind", [Elementwise, Layerwise])
@pytest.mark.parametrize(
    ("eta", "error"),
    [
        (-0.1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        ("0.1", TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
)
def test_a_bad_eta_is_refused(kind, eta, error):
    with pytest.raises(error, match=f"{kind.__name__}: eta="):
        kind(eta)


@pytest.mark.parametrize("weight", [(), (3,), (3, 0), (2, 2), (1, 1, 1)])
def test_matrices_are_what_has_two_dimensions(weight):
    assert matrices(torch.zeros(weight)) is (len(weight) >= 2)
