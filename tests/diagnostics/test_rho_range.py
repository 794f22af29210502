"""A grid of radii against quadratics by hand; collapses that are proved; and a run that does not notice."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sharpmin as sm
from sharpmin.core.errors import PhaseError
from sharpmin.core.rho import RhoSchedule
from sharpmin.diagnostics import rho_range
from sharpmin.diagnostics._rho.rules import LAG, LEAST, SAME, USUAL

SPLIT = 2
"""The first two coordinates are one parameter, the others a second one."""


def quadratic(w, h, lr=0.1, rho=0.05, make=sm.SAM):
    """w'Hw / 2 + xi'w with a batch xi: the model, SAM, and a step by closure."""
    model = nn.ParameterList([nn.Parameter(torch.tensor(part, dtype=torch.float64)) for part in (w[:SPLIT], w[SPLIT:])])
    opt = make(torch.optim.SGD(model.parameters(), lr=lr), rho=rho)
    matrix = torch.tensor(h, dtype=torch.float64)

    def step(net, opt, xi):
        def closure():
            opt.zero_grad()
            x = torch.cat([p.reshape(-1) for p in net])
            loss = x @ matrix @ x / 2 + torch.as_tensor(xi, dtype=torch.float64) @ x
            loss.backward()
            return loss

        return opt.step(closure)

    return model, opt, step


def kappa(g, d):
    """- sum <g_a, D_b> / sum <g_a, g_b> over a != b, pair by pair."""
    pairs = [(a, b) for a in range(len(g)) for b in range(len(g)) if a != b]
    return -sum(float(g[a] @ d[b]) for a, b in pairs) / sum(float(g[a] @ g[b]) for a, b in pairs)


def jackknife(g, d):
    full, n = kappa(g, d), len(g)
    without = [kappa([v for i, v in enumerate(g) if i != k], [v for i, v in enumerate(d) if i != k]) for k in range(n)]
    half = 1.96 * math.sqrt((n - 1) / n * sum((v - np.mean(without)) ** 2 for v in without))
    return full - half, full + half


def by_hand(w, h, batches, rho, lr=0.0, t=None):
    """The losses at w, the rises, g, D and e of every step; with lr the weights move. t: the operator of adaptive SAM."""
    out = []
    for xi in batches:
        g = h @ w + xi
        scale = np.ones_like(w) if t is None else t(w)
        e = rho * scale**2 * g / np.linalg.norm(scale * g)
        rise = g @ e + e @ h @ e / 2
        out.append((w @ h @ w / 2 + xi @ w, rise, g, h @ e, e))
        w = w - lr * (g + h @ e)
    return [list(column) for column in zip(*out, strict=True)]


def problem(seed, size=5, count=6):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((size, size))
    w, noise = 3 + rng.random(size), 0.3 * rng.standard_normal((count, size))
    return w, a @ a.T / size + 0.2 * np.eye(size), noise


def agrees(point, hand, counted=slice(None)):
    losses, rises, g, d, e = hand
    g, d, e, rises = g[counted], d[counted], e[counted], rises[counted]
    assert point.losses == pytest.approx(losses, rel=1e-10)
    assert point.rise == pytest.approx(np.mean(rises), rel=1e-9)
    assert point.cancelled == pytest.approx(kappa(g, d), rel=1e-9)
    assert point.interval == pytest.approx(jackknife(g, d), rel=1e-6)
    both = [a @ (a + b) / np.linalg.norm(a) / np.linalg.norm(a + b) for a, b in zip(g, d, strict=True)]
    assert point.cosine == pytest.approx(np.mean(both), rel=1e-9)
    assert point.amplification == pytest.approx(np.sum([a @ b for a, b in zip(g, d, strict=True)]) / np.sum(np.square(g)))
    first = np.mean([v[:SPLIT] @ v[:SPLIT] / (v @ v) for v in e])
    assert point.shares == pytest.approx({"0": first, "1": 1 - first}, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), rho=st.floats(1e-3, 10.0))
def test_at_the_present_weights_every_number_is_that_of_the_quadratic(seed, rho):
    w, h, noise = problem(seed)
    found = rho_range(*quadratic(w, h), list(noise), rhos=[rho])
    (point,) = found.points
    agrees(point, by_hand(w, h, noise, rho))
    assert (found.steps, found.without, point.fall) == (None, (), None)


@pytest.mark.parametrize("seed", range(3))
def test_along_a_short_run_the_second_half_counts(seed):
    w, h, noise = problem(seed, count=30)
    found = rho_range(*quadratic(w, h, lr=0.05), list(noise), rhos=[0.3, 0.1], steps=24)
    plain = by_hand(w, h, noise[:24], 0.0, lr=0.05)[0]
    assert found.without == pytest.approx(plain, rel=1e-10)
    assert [point.rho for point in found.points] == [0.1, 0.3]
    for point in found.points:
        hand = by_hand(w, h, noise[:24], point.rho, lr=0.05)
        agrees(point, hand, slice(12, None))
        falls = np.subtract(plain, hand[0])[12:]
        assert point.fall.mean == pytest.approx(falls.mean(), rel=1e-6, abs=1e-10)
        low, high = point.fall.interval
        assert low <= falls.mean() + 1e-12
        assert high >= falls.mean() - 1e-12


def test_another_geometry_is_that_of_the_optimizer():
    w, h, noise = problem(7)
    found = rho_range(
        *quadratic(w, h, make=lambda base, rho: sm.SAM(base, rho, geometry=sm.Elementwise(0.0))), list(noise), rhos=[0.2]
    )
    agrees(found.points[0], by_hand(w, h, noise, 0.2, t=np.abs))


def test_a_group_that_is_not_perturbed_has_no_share_and_the_others_keep_their_ratio():
    model = nn.ParameterList([nn.Parameter(torch.full((1,), float(v), dtype=torch.float64)) for v in (1, 2, 3)])
    groups = [{"params": [p], "rho": rho} for p, rho in zip(model, (0.0, 0.1, 0.05), strict=True)]
    opt = sm.SAM(torch.optim.SGD(groups, lr=0.1))
    found = rho_range(model, opt, squares, [None] * 4, rhos=[1.0])
    e = {"1": 1.0 * 2, "2": 0.5 * 3}  # both share the norm of (2, 3)
    whole = sum(v * v for v in e.values())
    assert found.points[0].shares == pytest.approx({name: v * v / whole for name, v in e.items()})


def squares(net, opt, _):
    def closure():
        opt.zero_grad()
        loss = sum((p**2).sum() for p in net) / 2
        loss.backward()
        return loss

    return opt.step(closure)


@pytest.mark.parametrize(
    ("rho", "radius"),
    [
        (sm.rho.Every(0.05, k=3), 0.7),
        (sm.rho.Tail(sm.rho.Constant(0.05), start=0.1, total=5), None),
        (sm.rho.Until(0.05, stop=0.9, total=100), 0.7),
        (sm.rho.Unnormalized(0.05), 0.7 * 5),
        (sm.rho.Capped(0.05, c=0.01), 0.05),
    ],
)
def test_a_schedule_keeps_its_shape(rho, radius):
    model = nn.ParameterList([nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))])
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=rho)
    if radius is None:  # it is 0 at the first step
        with pytest.raises(ValueError, match="no batch gave two gradients"):
            rho_range(model, opt, squares, [None] * 4, rhos=[0.7])
        return
    (point,) = rho_range(model, opt, squares, [None] * 4, rhos=[0.7]).points
    assert point.rise == pytest.approx(5 * radius + radius**2 / 2)


# collapse, no effect, a first value


def valley(x, lr=0.1):
    """1 + cos x: a maximum at 0, minima at pi and - pi."""
    model = nn.ParameterList([nn.Parameter(torch.tensor([x], dtype=torch.float64))])
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=lr))

    def step(net, opt, _):
        def closure():
            opt.zero_grad()
            loss = 1 + torch.cos(net[0]).sum()
            loss.backward()
            return loss

        return opt.step(closure)

    return model, opt, step


@settings(max_examples=5, deadline=None)
@given(start=st.floats(0.4, 0.9), small=st.floats(0.01, 0.5), large=st.floats(1.2, 2.0))
def test_a_collapse_is_found_exactly_where_it_is_proved(start, small, large):
    """SAM climbs by rho towards the maximum at 0. If rho < x, its gradient - sin(x - rho) still leads down to pi. If
    x < rho < pi, it leads to 0, and, beyond it, back: |x| <= max(start, lr), so the loss never falls below its start."""
    near, far = small * start, large * start
    found = rho_range(*valley(start), [None] * 120, rhos=[near, far], steps=120)
    assert found.claims.told
    assert found.collapse == far
    assert min(found.points[1].losses) >= 1 + math.cos(max(start, 0.1)) - 1e-12
    assert found.points[0].losses[-1] < 0.1
    assert found.first == max(near, USUAL)


@pytest.mark.parametrize("seed", range(3))
def test_on_a_convex_quadratic_nothing_collapses_where_rho_is_small_against_the_way(seed):
    """lr < 1 / (2 beta) and ||e|| <= 1: SAM contracts all the same, to within rho of a minimum that is 30 away."""
    w, h, _ = problem(seed)
    found = rho_range(*quadratic(10 * w, h), [np.zeros(5)] * 100, rhos=[0.1, 1.0], steps=100)
    assert (found.claims.told, found.collapse, found.first) == (True, None, 1.0)


def test_a_run_that_ends_in_no_number_has_collapsed():
    model = nn.ParameterList([nn.Parameter(torch.tensor([1.0], dtype=torch.float64))])
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1))

    def step(net, opt, _):
        def closure():
            opt.zero_grad()
            loss = (net[0] ** 4).sum() / 4
            loss.backward()
            return loss

        return opt.step(closure)

    found = rho_range(model, opt, step, [None] * 40, rhos=[0.01, 100.0], steps=40)
    assert found.collapse == 100.0
    assert not found.points[1].finite
    assert found.record()["points"][1]["losses"][-1] is None


def test_without_a_fall_nothing_is_told():
    found = rho_range(*valley(0.5, lr=1e-9), [None] * 20, rhos=[0.1, 1.0], steps=20)
    assert (found.claims.told, found.collapse, found.first) == (False, None, 0.05)
    assert "it must fall by a tenth" in found.explain()
    here = rho_range(*valley(0.5), [None] * 4, rhos=[0.1, 1.0])
    assert (here.claims.told, here.collapse, here.first) == (False, None, 0.05)
    assert "shows along a short run only: give steps=" in here.explain()


def test_hardly_any_effect_ends_where_the_rise_is_a_small_part_of_the_loss():
    """On w^2 / 2 the rise is rho w + rho^2 / 2; both are added up over the second half, with w by hand."""
    grid = [1e-4 * 1.5**k for k in range(12)]

    def share(rho):
        w, rises, losses = 1.0, [], []
        for _ in range(20):
            rises.append(rho * w + rho**2 / 2)
            losses.append(w**2 / 2)
            w -= 0.02 * (w + rho)
        return sum(rises[10:]) / sum(losses[10:])

    small = [rho for rho in grid if share(rho) < SAME]
    assert 0 < len(small) < len(grid)
    model = nn.ParameterList([nn.Parameter(torch.ones(1, dtype=torch.float64))])
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.02))
    found = rho_range(model, opt, squares, [None] * 20, rhos=grid, steps=20)
    assert found.no_effect == max(small)
    assert f"Up to rho = {max(small):g} hardly any effect" in found.explain()
    assert rho_range(model, opt, squares, [None] * 20, rhos=grid[-1:], steps=20).no_effect is None
    assert rho_range(model, opt, squares, [None] * 4, rhos=grid).no_effect is None  # told along a short run only


def progress(found):
    """Of every radius, as a share of that with rho = 0, from the losses."""

    def end(losses):
        return sum(losses[-15:]) / 15

    start = found.without[0]
    return [(start - end(p.losses)) / (start - end(found.without)) for p in found.points]


def test_the_first_value_is_the_largest_that_keeps_up():
    grid = [0.05, 0.2, 0.3, 0.35, 0.38, 0.39]
    found = rho_range(*valley(0.4), [None] * 60, rhos=grid, steps=60)
    made, at = progress(found), grid.index(found.first)
    assert min(made[: at + 1]) >= 1 - LAG > made[at + 1]
    assert found.first > USUAL
    assert found.collapse == next((rho for rho, share in zip(grid, made, strict=True) if share < LEAST), None)


def test_the_first_value_is_the_usual_one_where_no_larger_one_keeps_up():
    found = rho_range(*valley(0.4), [None] * 60, rhos=[0.39], steps=60)
    assert progress(found)[0] < 1 - LAG
    assert found.first == USUAL
    assert "the usual one; no larger one of the grid" in found.claims.reason


def test_where_the_usual_value_collapses_the_first_one_is_below_it():
    """0.05 is beyond the maximum, 0.03 away, and 0.02 is not."""
    found = rho_range(*valley(0.03), [None] * 160, rhos=[0.02, 0.05], steps=160)
    assert (found.collapse, found.first) == (0.05, 0.02)
    alone = rho_range(*valley(0.03), [None] * 160, rhos=[0.05], steps=160)
    assert (alone.collapse, alone.first) == (0.05, 0.05)
    assert "the smallest of the grid, although" in alone.claims.reason


# the run


class Net(nn.Module):
    """BatchNorm, dropout, and generators of three kinds."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))

    def forward(self, x):
        random.random()
        np.random.rand()
        return self.layers(x)


def training(base=lambda ps: torch.optim.AdamW(ps, lr=0.01)):
    torch.manual_seed(0)
    model = Net()
    opt = sm.SAM(base(model.parameters()), rho=0.1, model=model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 50)
    rng = torch.Generator().manual_seed(1)
    batches = [(torch.randn(8, 6, generator=rng), torch.randint(3, (8,), generator=rng)) for _ in range(24)]
    for batch in batches[:3]:
        train_step(model, opt, batch)
        scheduler.step()
    return model, opt, scheduler, batches


def train_step(model, opt, batch):
    def closure():
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        return loss

    return opt.step(closure)


def bits(value):
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, list) else value


def picture(model, opt, scheduler):
    return {
        "model": bits(model.state_dict()),
        "gradients": [None if p.grad is None else (bits(p.grad), id(p.grad)) for p in model.parameters()],
        "optimizer": bits(opt.state_dict()),
        "settings": (opt.rho, opt.telemetry, list(opt.watchers), opt.last),
        "scheduler": scheduler.state_dict(),
        "random": (bits(torch.get_rng_state()), random.getstate(), [bits(torch.tensor(np.random.get_state()[1].astype("i8")))]),
        "hooks": [len(p._post_accumulate_grad_hooks or ()) for p in model.parameters()],
        "versions": [p._version for p in model.parameters()],
    }


@pytest.mark.parametrize("steps", [None, 20])
def test_the_run_does_not_notice_and_the_answer_is_the_same_twice(steps):
    model, opt, scheduler, batches = training()
    before = picture(model, opt, scheduler)
    found = rho_range(model, opt, train_step, batches, rhos=[0.05, 0.5], steps=steps, scheduler=scheduler)
    assert picture(model, opt, scheduler) == before
    assert rho_range(model, opt, train_step, batches, rhos=[0.05, 0.5], steps=steps, scheduler=scheduler) == found
    for batch in batches[:4]:  # and it goes on as one that was left alone
        train_step(model, opt, batch)
    other, own, *_ = training()
    for batch in batches[:4]:
        train_step(other, own, batch)
    assert bits(model.state_dict()) == bits(other.state_dict())


def test_also_where_a_step_fails():
    model, opt, scheduler, batches = training()
    before, calls = picture(model, opt, scheduler), []

    def step(net, o, batch):
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("out of luck")
        return train_step(net, o, batch)

    with pytest.raises(RuntimeError, match="out of luck"):
        rho_range(model, opt, step, batches, rhos=[0.1])
    assert picture(model, opt, scheduler) == before


def test_a_short_run_follows_the_scheduler():
    model, opt, scheduler, batches = training(lambda ps: torch.optim.SGD(ps, lr=0.1))
    twin, own, ahead = copy.deepcopy((model, opt, scheduler))
    own.rho = 0.2
    torch_state, expected = torch.get_rng_state(), []
    for number, batch in enumerate(batches[:20], 1):
        expected.append(train_step(twin, own, batch).item())
        if number % 2 == 0:
            ahead.step()
    torch.set_rng_state(torch_state)
    found = rho_range(model, opt, train_step, batches, rhos=[0.2], steps=20, scheduler=scheduler, every=2)
    assert list(found.points[0].losses) == expected


@pytest.mark.parametrize("steps", [None, 20])
def test_it_costs_what_it_said_beforehand(steps):
    calls, said = [], []
    model, opt, step = quadratic(*problem(0)[:2])

    def counted(net, o, xi):
        made = o.step

        def by(closure):
            return made(lambda: (calls.append(1), closure())[1])

        o.step = by
        try:
            return step(net, o, xi)
        finally:
            del o.step

    batches = [np.zeros(5)] * 20
    found = rho_range(model, opt, counted, batches, rhos=[0.1, 0.2, 0.4], steps=steps, progress=lambda *pair: said.append(pair))
    whole = 3 * 2 * 20 + (20 if steps else 0)
    assert len(calls) == found.evaluations == whole
    assert said[0] == (0, whole)
    assert said[-1] == (whole, whole)
    assert [done for done, _ in said] == sorted(done for done, _ in said)


def test_a_step_without_a_closure_has_no_rise_and_says_so():
    model, opt, _, batches = training()

    def step(net, o, batch):
        o.zero_grad()
        loss = nn.functional.cross_entropy(net(batch[0]), batch[1])
        loss.backward()
        with o.perturbed():
            nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
        o.step()
        return loss

    found = rho_range(model, opt, step, batches[:1] * 80, rhos=[0.1], steps=80)
    (point,) = found.points
    assert found.claims.told
    assert (point.rise, found.no_effect) == (None, None)
    assert None not in (point.cosine, point.cancelled)
    assert sum(point.shares.values()) == pytest.approx(1)
    assert "the loss at w + e is not known" in found.explain()


def test_gradients_that_are_written_by_hand_tell_no_shares():
    model = nn.ParameterList([nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))])
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1))

    def step(net, o, _):
        def closure():
            net[0].grad = net[0].detach().clone()
            return (net[0].detach() ** 2).sum() / 2

        return o.step(closure)

    found = rho_range(model, opt, step, [None] * 4, rhos=[0.5])
    assert found.points[0].shares == {}
    assert found.points[0].cancelled == pytest.approx(-0.1)  # G = (1 + rho / norm(w)) w
    assert found.explain().splitlines()[1].split()[-2] == "-"


class Odd(RhoSchedule):
    """A radius without a field."""

    def __post_init__(self):
        pass

    def __call__(self, info):
        return 0.1


def case(**change):
    model, opt, step = quadratic(*problem(0)[:2])
    given = {"model": model, "opt": opt, "step": step, "batches": [np.zeros(5)] * 20, "rhos": [0.1]}
    return {**given, **{key: value(given) if callable(value) and key != "step" else value for key, value in change.items()}}


def perturbed(given):
    given["model"][0].grad = torch.ones(2, dtype=torch.float64)
    given["opt"].perturb()
    return given["opt"]


def frozen(given):
    given["model"].requires_grad_(False)
    return given["model"]


def around(given, **options):
    return sm.SAM(torch.optim.SGD(given["model"].parameters(), lr=0.1, momentum=0.9), **options)


BAD = [
    ({"rhos": []}, ValueError, "rhos is empty; give at least one radius > 0"),
    ({"rhos": [0.1, 0.0]}, ValueError, "rhos=0.0; rhos must be a finite number > 0"),
    ({"rhos": [math.nan]}, ValueError, "rhos=nan; rhos must be a finite number > 0"),
    ({"rhos": ["a"]}, TypeError, "rhos='a' is a str; rhos must be a finite number > 0"),
    ({"rhos": 0.1}, TypeError, "rhos=0.1 is a float; give several radii"),
    ({"batches": []}, ValueError, "0 batches; at least 4 are needed"),
    ({"batches": [1] * 3}, ValueError, "3 batches; at least 4 are needed"),
    ({"batches": iter([1] * 9)}, TypeError, "give a list, such as list"),
    ({"steps": 19}, ValueError, "steps=19; at least 20 are needed"),
    ({"steps": 2.5}, TypeError, "steps=2.5 is a float"),
    ({"steps": 21}, ValueError, "20 batches for steps=21; give a batch for every step, or fewer steps"),
    ({"every": 0}, ValueError, "every=0; every must be an integer >= 1"),
    ({"scheduler": 3}, TypeError, "scheduler=3 is no scheduler of torch"),
    ({"model": None}, TypeError, "model is a NoneType; give the torch.nn.Module"),
    ({"opt": None}, TypeError, "opt is a NoneType; give the sharpmin.SAM"),
    ({"model": lambda g: nn.Linear(1, 1)}, ValueError, "opt trains no parameter of model"),
    ({"model": frozen}, ValueError, r"no weight of opt requires a gradient; call requires_grad_\(\)"),
    ({"opt": lambda g: around(g, ascent=sm.Momentum())}, ValueError, "takes one gradient a step"),
    ({"opt": lambda g: around(g, scope="microbatch")}, ValueError, 'use scope="global"'),
    ({"opt": lambda g: around(g, rho=Odd())}, TypeError, "has no field rho"),
    ({"opt": perturbed}, PhaseError, "came while a SAM holds some of these weights perturbed"),
    ({"step": lambda *_: None}, TypeError, "rho_range: step returned None; it must return the loss at w"),
    (
        {"step": squares, "model": lambda g: [p.data.zero_() for p in g["model"]] and g["model"]},
        ValueError,
        "no batch gave two",
    ),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD, ids=[words[:30] for *_, words in BAD])
def test_one_clear_error_for_what_cannot_be_tried(change, error, words):
    given = case(**change)
    with pytest.raises(error, match=words):
        rho_range(given["model"], given["opt"], given["step"], given["batches"], **{k: given[k] for k in given.keys() - RUN})
    if isinstance(given["opt"], sm.SAM):
        given["opt"].abort()


RUN = {"model", "opt", "step", "batches"}


def test_the_text_is_a_table_of_80_columns_and_sentences():
    model, opt, _, batches = training()
    found = rho_range(model, opt, train_step, batches, rhos=[0.001, 0.05, 2.0], steps=20)
    lines = str(found).splitlines()
    assert lines[0].split()[:2] == ["rho", "cancelled,"]
    assert [line.split()[0] for line in lines[1:4]] == ["0.001", "0.05", "2"]
    assert max(map(len, lines[:4])) <= 80
    assert lines[4] == ""
    assert f"First value to try: {found.first:g} (" in str(found)
    assert found.record()["claims"]["first"] == found.first
