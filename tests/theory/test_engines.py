"""The compiled engine equals the reference, whatever the method, schedule, tiling and number of threads."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from sharpmin import rho as schedules
from sharpmin.theory import Hinge, HingeProblem, InverseTime, problems, samples, simulate
from sharpmin.theory._problems.dense import LogCosh
from sharpmin.theory._simulation import compiled
from sharpmin.theory._statements.random_problems import random_hinge

P = problems()
METHODS = ["gd", "sgd", "sam", "usam", "m-sam", "n-sam", "m-usam", "n-usam"]
THREE = HingeProblem(
    "three", (Hinge(-1.0, 1.0), Hinge(0.5, 2.0, ((0.3, -1.0),)), Hinge(0.0, 0.5, ((-0.4, 1.0),))), (0.2, 0.5, 0.3)
)
HINGES = {
    "no hinge": P["quadratic"](curvatures=[2.0]),
    "trap": P["trap"](theta=0.125, beta=2.0, rho=0.5),
    "e1": P["e1"](beta=1.0, mu=0.1, rho=1.0),
    "e3": P["e3"](p=0.1, rho=0.5),
    "nine knots": random_hinge(np.random.default_rng(3), 0.1, 1.0, noise=0.5),
    "three samples": THREE,
}
SCHEDULES = [
    0.3,
    0.0,
    schedules.Cosine(0.3, steps=20),
    schedules.InverseSqrt(0.3),
    schedules.ProportionalToLR(0.3, lr=0.1, power=0.5),
    schedules.Unnormalized(schedules.Every(0.3, k=3)),
    schedules.Every(schedules.Unnormalized(0.3), k=2),
    schedules.Capped(schedules.InverseSqrt(0.3), c=0.4),
    schedules.Capped(schedules.Unnormalized(0.3), c=0.4),
    schedules.Ramp(0.3, start=2, stop=9),
    schedules.Until(schedules.Tail(0.3, start=0.1, total=30), stop=0.9, total=30),
]


def both(problem, **k):
    """The two datasets, after a check that the compiled engine really took the run."""
    return tuple(simulate(problem, engine=engine, **k) for engine in ("compiled", "numpy"))


def assert_same(fast, slow):
    assert list(fast.data_vars) == list(slow.data_vars)
    assert fast.sizes == slow.sizes
    for name in fast.data_vars:
        np.testing.assert_allclose(fast[name].values, slow[name].values, rtol=1e-11, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", HINGES)
def test_hinge_problems(name, method, clip):
    k = {"lr": 0.13, "rho": 0.3, "steps": 30, "x0": np.linspace(-2, 3, 70), "seeds": np.arange(70), "record": [0, 7, 8, 30]}
    assert_same(*both(HINGES[name], method=method, clip=clip, **k))


@pytest.mark.parametrize("rho", SCHEDULES, ids=repr)
@pytest.mark.parametrize("method", ["sam", "n-sam", "m-usam"])
def test_schedules(method, rho):
    k = {"lr": InverseTime(0.4, 20.0), "rho": rho, "steps": 30, "x0": [0.4, 3.1], "seeds": [1, 2]}
    assert_same(*both(HINGES["e1"], method=method, **k))


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("method", ["gd", "sam", "usam"])
@pytest.mark.parametrize("dim", [2, 8, 33])
def test_quadratics(dim, method, clip):
    f, rng = P["quadratic"](curvatures=list(np.linspace(0.1, 2.0, dim))), np.random.default_rng(0)
    x0 = rng.normal(size=(67, dim))
    x0[3] = 0.0
    k = {"lr": rng.uniform(0.1, 0.9, 67), "rho": rng.uniform(0, 1, 67), "steps": 20, "x0": x0, "record": [5]}
    assert_same(*both(f, method=method, clip=clip, **k))


@pytest.mark.parametrize("rho", SCHEDULES, ids=repr)
def test_quadratics_under_schedules(rho):
    k = {"lr": InverseTime(0.4, 20.0), "rho": rho, "steps": 25, "x0": [1.0, -2.0]}
    assert_same(*both(P["quadratic"](curvatures=[0.5, 2.0]), method="sam", **k))


def test_zero_and_non_finite_lanes():
    k = {"lr": [0.1, 1e300, 5.0, 0.1], "rho": 0.5, "steps": 2000, "x0": [0.0, 1e300, 1.0, 1.0]}
    fast, slow = both(P["quadratic"](curvatures=[2.0]), method="sam", **k)
    np.testing.assert_array_equal(np.isfinite(fast.x_final), [True, False, False, True])
    np.testing.assert_array_equal(np.isfinite(slow.x_final), [True, False, False, True])
    assert float(fast.x_final[0]) == 0.0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_lane_is_the_same_in_any_company_and_on_any_number_of_threads(threads, monkeypatch):
    monkeypatch.setattr(compiled, "THREADS", threads)
    monkeypatch.setattr(compiled, "_WORTH_THREADS", 0)
    f, x0, seeds = HINGES["e1"], np.linspace(-3, 3, 300), np.arange(300)
    k = {"method": "n-sam", "lr": 0.2, "rho": 1.0, "steps": 50, "engine": "compiled"}
    together = simulate(f, x0=x0, seeds=seeds, **k)
    for lane in (0, 63, 64, 299):
        alone = simulate(f, x0=x0[lane], seeds=seeds[lane], **k)
        for name in together.data_vars:
            assert float(together[name][lane]) == float(alone[name][0])


def test_chunks_do_not_show(monkeypatch):
    k = {"method": "m-sam", "lr": 0.2, "rho": schedules.InverseSqrt(1.0), "steps": 100, "x0": [3.0], "seeds": [4]}
    whole = simulate(HINGES["e1"], engine="compiled", **k)
    monkeypatch.setattr(compiled, "CHUNK", 7)
    assert whole.identical(simulate(HINGES["e1"], engine="compiled", **k))


def test_memory_is_flat_in_the_number_of_steps():
    def peak(steps):
        tracemalloc.start()
        simulate(HINGES["e1"], method="n-sam", lr=InverseTime(0.4, 20.0), rho=1.0, steps=steps, x0=3.0, engine="compiled")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(200_000) < 1.1 * peak(20_000)


class Mine(schedules.RhoSchedule):
    def __call__(self, info):
        return 0.1 * info.dual_norm**0.5


PIECES = {
    "kappa2": P["kappa2"](beta=2.0, mu=0.1, rho=0.5, lr=0.05),
    "wedge": P["wedge"](beta=2.0, mu=0.1, rho=0.5, lr=0.01, slope=0.65),
}


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("method", ["gd", "sam", "usam"])
@pytest.mark.parametrize("name", PIECES)
def test_functions_of_the_plane_that_are_quadratic_on_cells(name, method, clip):
    rng = np.random.default_rng(0)
    x0 = rng.normal(size=(67, 2)) * 10.0 ** rng.uniform(-3, 1, (67, 1))
    x0[3] = 0.0
    k = {"lr": rng.uniform(0.01, 0.4, 67), "rho": rng.uniform(0, 1, 67), "steps": 20, "x0": x0, "record": [5]}
    assert_same(*both(PIECES[name], method=method, clip=clip, **k))


@pytest.mark.parametrize("rho", SCHEDULES, ids=repr)
@pytest.mark.parametrize("name", PIECES)
def test_cells_under_schedules(name, rho):
    k = {"lr": InverseTime(0.4, 20.0), "rho": rho, "steps": 25, "x0": [1.0, -2.0]}
    assert_same(*both(PIECES[name], method="sam", **k))


def test_lanes_on_cells_are_spread_over_threads(monkeypatch):
    monkeypatch.setattr(compiled, "THREADS", 3)
    monkeypatch.setattr(compiled, "_WORTH_THREADS", 0)
    x0 = np.random.default_rng(0).normal(size=(7, 2))
    k = {"method": "sam", "lr": 0.1, "rho": 0.5, "steps": 50, "engine": "compiled"}
    together = simulate(PIECES["wedge"], x0=x0, **k)
    for lane in range(7):
        np.testing.assert_array_equal(together.x_final[lane], simulate(PIECES["wedge"], x0=x0[lane], **k).x_final[0])


REFERENCE_ONLY = [
    (PIECES["wedge"], {"method": "m-sam", "x0": [1.0, 1.0]}),
    (LogCosh("log-cosh", 1, 1.0), {"method": "sam"}),
    (P["quadratic"](curvatures=[1.0, 2.0]), {"method": "m-sam", "x0": [1.0, 1.0]}),
    (HINGES["trap"], {"method": "sam", "rho": schedules.Unnormalized(schedules.Unnormalized(0.3))}),
    (HINGES["trap"], {"method": "sam", "rho": schedules.ProportionalToLR(0.3, lr=0.1), "lr": [0.1, 0.2]}),
]


@pytest.mark.parametrize(("problem", "k"), REFERENCE_ONLY)
def test_what_it_cannot_take_goes_to_the_reference(problem, k):
    k = {"lr": 0.1, "rho": 0.3, "steps": 5, "x0": 1.0, **k}
    assert simulate(problem, **k).identical(simulate(problem, engine="numpy", **k))
    with pytest.raises(ValueError, match="engine='compiled' does not take"):
        simulate(problem, engine="compiled", **k)


def test_a_schedule_of_somebody_else_goes_to_the_reference():
    k = {"method": "sam", "lr": 0.1, "rho": Mine(), "steps": 5, "x0": 1.0}
    assert simulate(HINGES["trap"], **k).identical(simulate(HINGES["trap"], engine="numpy", **k))


def test_an_unknown_engine():
    with pytest.raises(ValueError, match="engine='c'"):
        simulate(HINGES["trap"], method="gd", lr=0.1, steps=1, x0=1.0, engine="c")


def test_it_compiles_where_nothing_can_be_cached():
    code = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
from sharpmin.theory import problems, simulate
from sharpmin.theory._simulation import compiled
run = simulate(problems()["quadratic"](curvatures=[1.0]), method="sam", rho=0.0, lr=0.5, steps=2, x0=1.0, engine="compiled")
print(float(run.x_final[0]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("0.25", 0), done.stderr


def e4_by_hand(x0, seed, steps, lr, rho, d, both_draws):
    """E4 with beta = 1 from its definition, f' = clip(x, -L0, L0) and s through four points: exactly 0 where a sample rests."""
    level, w = 0.45 * rho, rho / 32
    points = ([d - rho + w, d - w, d + w, d + rho - w], [level, rho - 2 * w - level, rho - 2 * w - level, -level])

    def derivative(x, sample):
        return np.clip(x, -level, level) + (1 - 2 * sample) * np.interp(x, *points)

    f, x = P["e4"](beta=1.0, rho=rho, d=d), x0
    for step in range(steps):
        first, second = samples(f, seed=seed, step=step)
        x -= lr * derivative(x + rho * np.sign(derivative(x, first)), second if both_draws else first)
    return x


@pytest.mark.parametrize("method", ["m-sam", "n-sam"])
def test_a_sample_gradient_that_is_zero_on_an_interval_does_not_move(method):
    f, k = P["e4"](beta=1.0, rho=0.5, d=5.0), {"lr": 0.1, "rho": 0.5, "steps": 40}
    assert all(h.flat() for h in f.components)
    assert not f.mean.flat()
    starts = np.concatenate([np.linspace(-9, 4.4, 6), np.linspace(5.6, 12, 6)])
    expected = [e4_by_hand(x, seed, 40, 0.1, 0.5, 5.0, method == "n-sam") for seed, x in enumerate(starts)]
    for data in both(f, method=method, x0=starts, seeds=range(len(starts)), **k):
        np.testing.assert_allclose(data.x_final.values, expected, atol=1e-12)
