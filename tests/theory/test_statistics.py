"""The statistics that a compiled loop keeps beside the steps, against those of the whole trajectory, taken afterwards."""

import math

import numpy as np
import pytest

from sharpmin.theory import Hinge, HingeProblem, problems, samples, simulate
from sharpmin.theory._simulation import compiled

P = problems()
KINK = Hinge(0.0, 1.0, ((0.2, 0.7),))
ONE_D = {
    "a parabola": P["quadratic"](curvatures=[2.0]),
    "a pair of hinges": P["trap"](theta=0.125, beta=2.0, rho=0.5),
    "two pairs": P["trap-lipschitz"](theta=0.125, beta=2.0, rho=0.5),
    "two samples, four knots": P["e1"](beta=1.0, mu=0.1, rho=1.0),
    "two samples, two knots": P["e3"](p=0.1, rho=0.5),
    "two samples of a kink": HingeProblem("kink", (KINK + Hinge(0.4), KINK - Hinge(0.4)), (0.5, 0.5)),
    "three samples": HingeProblem(
        "three", (Hinge(-1.0, 1.0), Hinge(0.5, 2.0, ((0.3, -1.0),)), Hinge(0.0, 0.5, ((-0.4, 1.0),))), (0.2, 0.5, 0.3)
    ),
}
ALL = ["gd", "sam", "usam", "sgd", "m-sam", "n-sam", "m-usam", "n-usam"]
STEPS, NAMES = 37, ("mean_square_gradient", "min_square_gradient", "mean_perturbed_gap")
RECORDS = {"nothing": [], "each": range(STEPS + 1), "each seventh": range(0, STEPS + 1, 7), "the ends": [0, STEPS]}
LANES = {"lr": np.array([0.13, 0.2, 0.07, 0.13, 0.1]), "rho": np.array([0.3, 0.0, 0.7, 1.1, 0.3])}
SEEDS = [4, 0, 17, 5, 5]


def radii(method, rho, norm):
    """What multiplies the gradient in y - x."""
    return 0.0 if method in ("gd", "sgd") else rho if "usam" in method else rho / norm if norm else 0.0


def walk(f, method, lane, x, gradient, clip):
    """x_0 ... x_T and y_0 ... y_(T-1) of one lane, from the equations; `gradient(x, k)` is that of sample k, f's for None."""
    xs, ys, lr, rho = [x], [], LANES["lr"][lane], LANES["rho"][lane]
    for t in range(STEPS):
        one, two = (None, None) if method in ("gd", "sam", "usam") else samples(f, SEEDS[lane], t)
        g = gradient(x, one)
        y = x + radii(method, rho, np.linalg.norm(g)) * g
        big = gradient(y, two if method[0] == "n" else one) if "sam" in method and rho else g
        difference = np.linalg.norm(big - g)
        share = 1.0 if clip is None or not difference else min(1.0, clip * np.linalg.norm(g) / difference)
        ys.append(y)
        x = x - lr * (g + share * (big - g))
        xs.append(x)
    return xs, ys


def expected(f, method, x0, clip=None):
    """By lane: the trajectory, the points y, and then f' and f - f* from definitions."""
    if f.dim == 1:
        derivatives = {None: f.mean, **dict(enumerate(f.components))}
        least = min(f.mean.value(z) for z in f.mean.zeros())
        walks = [walk(f, method, i, x, lambda x, k: derivatives[k](x), clip) for i, x in enumerate(x0)]
        return walks, f.mean, lambda x: f.mean.value(x) - least
    lam = np.array(f.curvatures)
    walks = [walk(f, method, i, x, lambda x, k: lam * x, clip) for i, x in enumerate(x0)]
    return walks, lambda x: lam * x, lambda x: math.fsum(lam * x * x) / 2


def taken_afterwards(walks, gradient, gap):
    """The three statistics, an array of lanes each, from the whole trajectories."""
    squares = [[float(np.sum(np.square(gradient(x)))) for x in xs[:-1]] for xs, _ in walks]
    gaps = [[gap(y) for y in ys] for _, ys in walks]
    means = ([math.fsum(of_lane) / STEPS for of_lane in values] for values in (squares, gaps))
    return dict(zip(NAMES, (next(means), [min(of_lane) for of_lane in squares], next(means)), strict=True))


def agree(got, wanted):
    return np.allclose(got, wanted, rtol=1e-10, atol=1e-12)


def starts(f):
    rng = np.random.default_rng(7)
    return rng.uniform(-1.7, 2.9, 5) if f.dim == 1 else rng.normal(size=(5, f.dim))


def check(f, method, record, clip, **k):
    x0 = starts(f)
    data = simulate(f, method=method, **LANES, steps=STEPS, x0=x0, seeds=SEEDS, record=record, clip=clip, **k)
    walks, gradient, gap = expected(f, method, x0, clip)
    assert agree(data.x_final.values, [xs[-1] for xs, _ in walks])
    for t in record:
        assert agree(data.x.sel(record=t).values, [xs[t] for xs, _ in walks])
    for name, wanted in taken_afterwards(walks, gradient, gap).items():
        assert agree(data[name].values, wanted), name


@pytest.mark.parametrize("engine", ["compiled", "numpy"])
@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("name", ONE_D)
def test_one_dimension(name, method, record, engine):
    check(ONE_D[name], method, record, None, engine=engine)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
@pytest.mark.parametrize("method", ["gd", "sam", "usam"])
@pytest.mark.parametrize("dim", [2, 3, 8, 33, 64])
def test_more_dimensions(dim, method, record, clip):
    check(P["quadratic"](curvatures=list(np.linspace(0.1, 2.0, dim))), method, record, clip, engine="compiled")


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("name", ONE_D)
def test_clipped(name, method):
    check(ONE_D[name], method, [], 0.5, engine="compiled")


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("name", ["a pair of hinges", "two samples, four knots"])
def test_chunks_add_up(name, chunk, monkeypatch):
    monkeypatch.setattr(compiled, "CHUNK", chunk)
    for method in ("sam", "m-sam", "n-sam"):
        check(ONE_D[name], method, [5], None, engine="compiled")


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("name", ONE_D)
def test_the_steps_are_the_same_without_them(name, method):
    f = ONE_D[name]
    k = {"method": method, **LANES, "steps": STEPS, "x0": starts(f), "seeds": SEEDS, "engine": "compiled"}
    assert agree(simulate(f, **k).x_final, simulate(f, means=False, **k).x_final)


WRONG = {
    "the last step is left out": lambda walks, df, gap: ([(xs[:-1], ys[:-1]) for xs, ys in walks], df, gap),
    "the end is counted": lambda walks, df, gap: ([([*xs, xs[-1]], [*ys, xs[-1]]) for xs, ys in walks], df, gap),
    "the gap is taken at x": lambda walks, df, gap: ([(xs, xs[:-1]) for xs, _ in walks], df, gap),
    "the gradient is taken at y": lambda walks, df, gap: ([([*ys, xs[-1]], ys) for xs, ys in walks], df, gap),
    "a gap is a millionth off": lambda walks, df, gap: (walks, df, lambda x: gap(x) * (1 + 1e-6)),
    "a gradient is a millionth off": lambda walks, df, gap: (walks, lambda x: df(x) * (1 + 1e-6), gap),
    "lanes change places": lambda walks, df, gap: (walks[::-1], df, gap),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(("problem", "method"), [
    (ONE_D["a pair of hinges"], "sam"),
    (ONE_D["two samples, four knots"], "m-sam"),
    (ONE_D["three samples"], "n-usam"),
    (P["quadratic"](curvatures=[0.5, 1.0, 2.0]), "sam"),
])  # fmt: skip
def test_wrong_statistics_are_seen(problem, method, wrong):
    x0 = starts(problem)
    data = simulate(problem, method=method, **LANES, steps=STEPS, x0=x0, seeds=SEEDS, engine="compiled")
    off = taken_afterwards(*wrong(*expected(problem, method, x0)))
    assert not all(agree(data[name].values, off[name]) for name in NAMES)


@pytest.mark.parametrize(("problem", "method"), [
    (ONE_D["a pair of hinges"], "sam"),
    (ONE_D["two samples of a kink"], "m-usam"),
    (ONE_D["two samples, four knots"], "n-sam"),
    (P["quadratic"](curvatures=[0.5, 1.0, 2.0]), "sam"),
])  # fmt: skip
def test_where_a_run_diverges_both_engines_say_so(problem, method):
    lr = np.array([0.1, 70.0, 0.2, 9e3, 0.1])
    k = {"method": method, "lr": lr, "rho": 0.3, "steps": 900, "x0": starts(problem), "seeds": SEEDS}
    fast, slow = (simulate(problem, engine=engine, **k) for engine in ("compiled", "numpy"))
    for name in ("x_final", *NAMES):
        lanes = np.isfinite(fast[name].values)
        np.testing.assert_array_equal(lanes, np.isfinite(slow[name].values), err_msg=name)
        assert lanes[[0, 2, 4]].all()
        if name == "min_square_gradient":  # of what was finite
            np.testing.assert_allclose(fast[name].values, slow[name].values, rtol=1e-9)
        assert lanes[[1, 3]].all() if name == "min_square_gradient" else not lanes[[1, 3]].any()
