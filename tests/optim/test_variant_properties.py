"""What the variants promise: where they are SAM, how they move, how many passes they take, how they are resumed."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sharpmin as sm
from sharpmin.optim import Context

from .variants_by_hand import CASES, Loss, by_block, by_closure, by_guarded_block

ADAM = lambda ps: torch.optim.Adam(ps, lr=0.05)  # noqa: E731
SGD = lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9)  # noqa: E731
IS_SAM = {
    "gsam": {"alpha": 0.0},
    "looksam": {"k": 1},
    "friendly_sam": {"sigma": 0.0},
    "fisher_sam": {"keep": 1.0},
    "vasso": {"theta": 1.0},
}


def path_of(build, base, door=by_closure, steps=12, kind=Loss):
    f, seen = kind(), []
    opt = build(base([p for p in (f.x, f.y) if p is not None]))
    for _ in range(steps):
        door(opt, f)
        seen.append(f.weights.detach().clone())
    return torch.stack(seen), opt, f


@pytest.mark.parametrize("base", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", IS_SAM)
def test_it_is_sam_at_the_end_of_its_range(path, name, base):
    own, _, _ = path_of(lambda b: sm.create(name, b, rho=0.3, **IS_SAM[name]), base)
    sam, _, _ = path_of(lambda b: sm.sam(b, 0.3), base)
    assert torch.equal(own, sam)


class Line(Loss):
    """The weights as one vector."""

    def __init__(self):
        super().__init__()
        self.x, self.y = None, nn.Parameter(torch.cat([self.x.detach().reshape(-1), self.y.detach()]))

    @property
    def weights(self):
        return self.y


@pytest.mark.parametrize("method", ["svd", "newton-schulz"])
def test_spectral_of_one_vector_is_sam(path, method):
    own, _, _ = path_of(lambda b: sm.spectral_sam(b, 0.3, method=method), SGD, kind=Line)
    sam, _, _ = path_of(lambda b: sm.sam(b, 0.3), SGD, kind=Line)
    assert torch.allclose(own, sam, rtol=0, atol=1e-13)


def test_stable_keeps_the_length_of_the_gradient(path):
    f = Loss()
    opt = sm.stable_sam(SGD([f.x, f.y]), 0.5)
    for _ in range(10):
        opt.zero_grad()
        f()
        first = torch.cat([f.x.grad.reshape(-1), f.y.grad]).norm()
        with opt.perturbed():
            f()
        second = torch.cat([f.x.grad.reshape(-1), f.y.grad]).norm()
        assert second.item() == pytest.approx(first.item(), rel=1e-13)
        opt.step()


matrices_of = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 6), st.integers(0, 2**16), st.floats(-12, 12))


@given(matrices_of, st.sampled_from([torch.float32, torch.float64]))
def test_spectral_steepest_ascent(shape, dtype):
    """||v||_op = 1 and <g, v> = the nuclear norm, for every rank and scale, and v is U V^T on the range alone."""
    rows, columns, rank, seed, scale = shape
    draw = np.random.default_rng(seed)
    g = draw.normal(size=(rows, rank)) @ draw.normal(size=(rank, columns)) * 10.0**scale
    t, vector = torch.tensor(g, dtype=dtype), torch.tensor(draw.normal(size=3) * 10.0**scale, dtype=dtype)
    geometry = sm.Spectral()
    metric = geometry.at([t, vector], [t, vector], Context())
    total = metric.measure()
    v, unit = metric.steepest(total)
    s = np.linalg.svd(t.double().numpy(), compute_uv=False)
    rel = 1e-5 if dtype is torch.float32 else 1e-12
    assert total == pytest.approx(s.sum() + vector.double().norm().item(), rel=rel)
    assert geometry.joint([metric.norm([t], [v]), metric.norm([t], [unit])]) == pytest.approx(1.0, rel=rel)
    assert np.linalg.matrix_rank(v.double().numpy(), tol=0.5) == min(rank, rows, columns)
    assert (v * t).sum().item() == pytest.approx(s.sum(), rel=rel)


@given(st.integers(2, 8), st.integers(2, 8), st.integers(0, 2**16), st.sampled_from([torch.float32, torch.float64]))
def test_newton_schulz_agrees_with_the_svd(rows, columns, seed, dtype):
    """Where the singular values lie within the factor that it states."""
    draw = np.random.default_rng(seed)
    left, s, right = np.linalg.svd(draw.normal(size=(rows, columns)), full_matrices=False)
    s = 10.0 ** draw.uniform(-2 if dtype is torch.float32 else -6, 0, size=s.shape)
    t = torch.tensor((left * s) @ right, dtype=dtype)
    exact, close = (sm.Spectral(method).at([t], [t], Context()) for method in ("svd", "newton-schulz"))
    tolerance = 2e-3 if dtype is torch.float32 else 1e-3
    assert close.measure() == pytest.approx(exact.measure(), rel=tolerance)
    assert torch.allclose(next(close.steepest(1.0)), next(exact.steepest(1.0)), rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", ["svd", "newton-schulz"])
def test_spectral_of_what_is_zero_sparse_scalar_empty_or_not_finite(path, method):
    geometry = sm.Spectral(method)
    rows = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.tensor([[3.0, 4.0]]), (3, 2), check_invariants=True)
    a = [torch.zeros(2, 2), rows, torch.tensor(-2.0), torch.zeros(0, 3), torch.ones(2, 2, dtype=torch.bfloat16)]
    metric = geometry.at(a, a, Context())
    assert float(metric.measure()) == pytest.approx(5 + 2 + 2, rel=1e-3)
    zero, sparse, scalar, empty, flat = metric.steepest(metric.measure())
    assert zero.tolist() == [[0, 0], [0, 0]]
    assert sparse[1].tolist() == pytest.approx([0.6, 0.8], abs=1e-3)
    assert (scalar.item(), empty.shape, flat.dtype) == (-1.0, (0, 3), torch.float32)
    bad = torch.tensor([[1.0, float("nan")], [float("inf"), 2.0]])
    metric = geometry.at([bad, a[1]], [bad, a[1]], Context())
    assert not np.isfinite(float(metric.measure()))
    assert all(torch.isfinite(v).all() for v in metric.steepest(metric.measure()))


def test_ties_in_the_fisher_mask_go_to_the_first():
    a = [torch.tensor([[1.0, -1.0]]), torch.tensor([1.0, 1.0, 1.0])]
    for keep, share in ((0.2, 1), (0.6, 3), (0.01, 1), (1.0, 5)):
        metric = sm.FisherMask(keep).at(a, a, Context())
        v = torch.cat([part.reshape(-1) for part in metric.steepest(metric.measure())])
        assert (v != 0).tolist() == [i < share for i in range(5)]


def test_random_sam_leaves_the_global_random_state_alone_and_goes_on_alike():
    before = torch.get_rng_state()
    one, opt, f = path_of(lambda b: sm.random_sam(b, 0.3), SGD)
    assert torch.equal(torch.get_rng_state(), before)
    assert (f.calls, opt.last.passes) == (12, 1)
    torch.manual_seed(99)
    other, _, _ = path_of(lambda b: sm.random_sam(b, 0.3), SGD, door=by_block)
    assert torch.equal(one, other)


@pytest.mark.parametrize("door", [by_closure, by_guarded_block])
def test_looksam_takes_110_passes_in_100_steps(door):
    _, _, f = path_of(lambda b: sm.looksam(b, 0.05, k=10), SGD, door=door, steps=100)
    assert f.calls == 110


@pytest.mark.parametrize("block", [None, lambda f: None, lambda f: f()], ids=["left out", "empty", "of another loss"])
def test_on_steps_between_the_gradient_of_the_block_counts_if_it_has_one(block):
    ends = []
    for factor, run_block in ((1.0, block), (2.0 if block is not None and block(lambda: True) else 1.0, None)):
        f = Loss()
        opt = sm.looksam(SGD([f.x, f.y]), 0.3, k=3)
        by_closure(opt, f)
        opt.zero_grad()
        (f.value() * factor).backward()
        if run_block is not None:
            with opt.perturbed():
                run_block(lambda f=f: (f.value() * 2.0).backward())
        opt.step()
        ends.append(f.weights.detach())
    assert torch.equal(*ends)


def test_looksam_without_a_sam_step_is_the_base():
    own, opt, _ = path_of(lambda b: sm.SAM(b, 0.0, descent=sm.ReuseOrthogonal()), SGD)
    sam, _, _ = path_of(lambda b: sm.SAM(b, 0.0), SGD)
    assert torch.equal(own, sam)
    assert "sharpmin" not in opt.state_dict()


@pytest.mark.parametrize("part", ["gradient", "kept"])
def test_looksam_has_nothing_to_add_where_a_part_is_zero(path, part):
    """alpha ||g|| / ||V|| is 0 where g is 0, and where V is, which has no direction; of a zero g all of G is new."""
    w, some, none = torch.zeros(2), torch.tensor([3.0, 4.0]), torch.zeros(2)
    g, kept = (none, some) if part == "gradient" else (some, none)
    a, b, _ = sm.ReuseOrthogonal().coefficients([w], [g], None, {w: kept}, Context())
    assert (float(a), float(b)) == (1.0, 0.0)
    big = some + 1 if part == "gradient" else some
    _, _, state = sm.ReuseOrthogonal().coefficients([w], [g], [big], {}, Context())
    assert state[w].tolist() == (big if part == "gradient" else none).tolist()


REMEMBERS = {"looksam": "descent", "friendly_sam": "ascent", "vasso": "ascent"}


def saved_and_loaded(case, opt, f):
    file = io.BytesIO()
    torch.save({"weights": f.weights.detach(), "opt": opt.state_dict()}, file)
    file.seek(0)
    saved, twin = torch.load(file, weights_only=True), Loss()
    twin.x.data.copy_(saved["weights"][:6].view(2, 3))
    twin.y.data.copy_(saved["weights"][6:])
    other = CASES[case].build(ADAM([twin.x, twin.y]))
    other.load_state_dict(saved["opt"])
    return other, twin


COPIES = {
    "checkpoint": saved_and_loaded,
    "deepcopy": lambda case, opt, f: copy.deepcopy((opt, f)),
    "pickle": lambda case, opt, f: pickle.loads(pickle.dumps((opt, f))),
}


@pytest.mark.parametrize("at", [3, 4, 5])  # LookSAM with k = 3: just before its second SAM step, and between two of them
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", REMEMBERS)
def test_it_resumes_bit_for_bit(bits, name, how, at):
    case = name.replace("_", "-")
    f = Loss()
    opt = CASES[case].build(ADAM([f.x, f.y]))
    for _ in range(at):
        by_closure(opt, f)
    opt.zero_grad()
    assert set(opt.state_dict()["sharpmin"]) == {REMEMBERS[name]}
    twin, g = COPIES[how](case, opt, f)
    for _ in range(8):
        by_closure(opt, f)
        by_closure(twin, g)
        assert torch.equal(f.weights, g.weights)
    assert bits(opt.state_dict()) == bits(twin.state_dict())


def test_looksam_goes_on_after_a_step_that_was_skipped():
    """A SAM step with a gradient that is not finite changes nothing; the next one is the SAM step."""
    f = Loss()
    opt = sm.looksam(SGD([f.x, f.y]), 0.3, k=3)
    was = f.weights.detach().clone()

    def spoiled():
        f()
        f.x.grad[0, 0] = float("nan")
        return torch.zeros(())

    with pytest.warns(UserWarning, match="."):
        by_closure(opt, spoiled)
    assert torch.equal(f.weights, was)
    by_closure(opt, f)
    assert opt.last.passes == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sm.SurrogateGap(-1.0), "alpha"),
        (lambda: sm.ReuseOrthogonal(-1.0), "alpha"),
        (lambda: sm.Residual(decay=1.0), r"decay must be in \[0, 1\)"),
        (lambda: sm.Residual(sigma=-1.0), "sigma"),
        (lambda: sm.FisherMask(0.0), "keep"),
        (lambda: sm.FisherMask(1.1), r"keep must be in \(0, 1\]"),
        (lambda: sm.Spectral("qr"), "'svd', 'newton-schulz'"),
    ],
)
def test_bad_numbers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_random_directions_need_whole_tensors(monkeypatch):
    monkeypatch.setattr("sharpmin.optim.variants._random_sam.any_sharded", lambda _: True)
    w = nn.Parameter(torch.ones(2))
    opt = sm.random_sam(torch.optim.SGD([w], lr=0.1))
    with pytest.raises(ValueError, match="needs whole tensors"):
        opt.perturb()
    assert w.tolist() == [1.0, 1.0]
