"""KAPPA2 and WEDGE: the proof of docs/kappa.md in exact arithmetic, and the functions against what defines them.

Points, gradients and inequalities are written out here, from the page and not with the code.
"""

import math
from fractions import Fraction as Q
from itertools import permutations

import numpy as np
import pytest

from sharpmin.theory import problems, simulate, theorems
from sharpmin.theory._problems.kappa2 import gap, largest_lr, room, two_cycle, worst_shape
from sharpmin.theory._problems.wedge import cycle
from sharpmin.theory._theorems.kappa2 import supremum
from sharpmin.theory._theorems.t1 import floor

optimize = pytest.importorskip("scipy.optimize")
E1, E2, THETA = Q(3, 5), Q(4, 5), Q(3, 4)
MIRROR = {"x+": "x-", "x-": "x+", "y+": "y-", "y-": "y+", "x*": "x*"}


class Poly:
    """A polynomial with rational coefficients in m and t; negative powers of m are welcome."""

    def __init__(self, terms):
        self.terms = {powers: c for powers, c in terms.items() if c}

    def __add__(self, other):
        return Poly({k: self.terms.get(k, 0) + other.terms.get(k, 0) for k in self.terms.keys() | other.terms.keys()})

    def __sub__(self, other):
        return self + other * -1

    def __mul__(self, other):
        if not isinstance(other, Poly):
            return Poly({k: c * other for k, c in self.terms.items()})
        out = {}
        for (i, j), a in self.terms.items():
            for (k, n), b in other.terms.items():
                out[i + k, j + n] = out.get((i + k, j + n), 0) + a * b
        return Poly(out)


def five_points(q, q_over_mu, one):
    """Points and gradients at beta = rho = 1, q = lr theta/2, in numbers or polynomials; and f there, but at y."""
    zero = one * 0
    points = {"x*": (q_over_mu * -E1, zero), "x+": (zero, q * E2), "y+": (one * E1, q * E2 + one * E2)}
    slopes = {"x*": (zero, zero), "x+": (q * E1, q * E2), "y+": (zero, one * (THETA * E2))}
    for name in ("x+", "y+"):
        points[MIRROR[name]] = points[name][0], points[name][1] * -1
        slopes[MIRROR[name]] = slopes[name][0], slopes[name][1] * -1
    on_cycle = (q * q_over_mu * E1**2 + q * q * E2**2) * Q(1, 2)
    return points, slopes, {"x*": zero, "x+": on_cycle, "x-": on_cycle}


def least_rise(points, slopes, mu, one, i, j):
    """2 (1 - mu) times what f_i - f_j is at least (Taylor, Hendrickx & Glineur, 2017), at beta = 1."""

    def dot(a, b):
        return a[0] * b[0] + a[1] * b[1]

    d, g = ([at[i][k] - at[j][k] for k in (0, 1)] for at in (points, slopes))
    return dot(slopes[j], d) * (one - mu) * 2 + dot(g, g) + dot(d, d) * mu - dot(g, d) * mu * 2


def limits(mu, q, q_over_mu, one):
    """Twice (1 - mu) f(y+) is at least each of the first and at most each of the second; and what the other pairs leave."""
    points, slopes, f = five_points(q, q_over_mu, one)
    smooth = (one - mu) * 2
    rise = {pair: least_rise(points, slopes, mu, one, *pair) for pair in permutations(points, 2)}
    least = [f[i] * smooth + rise[y, i] for i in f for y in ("y+", "y-")]
    most = [f[i] * smooth - rise[i, y] for i in f for y in ("y+", "y-")]
    rest = [(f[i] - f[j]) * smooth - rise[i, j] for i, j in permutations(f, 2)]
    return least, most, [*rest, rise["y+", "y-"] * -1, rise["y-", "y+"] * -1]


def interpolates(kappa, lr):
    q = lr * THETA / 2
    least, most, rest = limits(1 / kappa, q, kappa * q, Q(1))
    return min(rest) >= 0 and max(least) <= min(most)


@pytest.mark.parametrize("s", [Q(1, 100), Q(1, 4), Q(1, 2)])
@pytest.mark.parametrize("root", [3, 4, 5, 10, 32, 100, 1000])
def test_the_five_points_interpolate(root, s):
    assert interpolates(Q(root) ** 2, s / root)  # kappa = root^2, lr sqrt(kappa) = s


@pytest.mark.parametrize(("root", "s"), [(2, Q(1, 2)), (Q(283, 100), Q(3, 2)), (2, Q(1, 1000)), (10, Q(7, 5)), (100, Q(8, 5))])
def test_where_they_do_not(root, s):
    assert not interpolates(Q(root) ** 2, s / root)


def test_they_interpolate_for_every_kappa_from_8_and_every_lr_up_to_a_half_of_its_root():
    """m = kappa^(-1/2) <= .3536 and t = q/m <= 3/16: with negative terms at that corner and no others, all stays >= 0."""
    one, m, t = Poly({(0, 0): Q(1)}), Poly({(1, 0): Q(1)}), Poly({(0, 1): Q(1)})
    least, most, rest = limits(m * m, m * t, Poly({(-1, 1): Q(1)}), one)
    corner = Q(3536, 10000), Q(3, 16)
    assert corner[0] ** 2 > Q(1, 8)
    assert [p.terms for p in rest[:-2]] == [{}] * 6  # the values on the cycle and at the minimizer are forced
    for p in [*rest[-2:], *(b - a for a in least for b in most)]:
        assert min(power for powers in p.terms for power in powers) >= 0
        falling = sum(c * corner[0] ** i * corner[1] ** j for (i, j), c in p.terms.items() if c < 0)
        assert p.terms[0, 0] + falling > 0
    decisive = {(0, 0): 3, (2, 0): -13, (1, 1): -10, (0, 2): -9, (3, 1): -16, (2, 2): -16}
    assert decisive in [((b - a) * Q(25, 2)).terms for a in least for b in most]  # that of the page


@pytest.mark.parametrize("root", [Q(21, 10), 3, 5, 10, 100, 1000])
def test_the_largest_lr_is_where_exact_arithmetic_says(root):
    most = Q(largest_lr(float(root**2)))
    assert interpolates(Q(root) ** 2, most * Q(999_999, 1_000_000))
    assert not interpolates(Q(root) ** 2, most * Q(1_000_001, 1_000_000))
    assert abs(room(float(1 / Q(root) ** 2), float(most), (0.6, 0.8), 0.75)) < 1e-12


CASES = [(1.0, 100.0, 1.0, 0.05), (2.0, 8.0, 0.7, 0.17), (0.5, 1000.0, 3.0, 0.01), (1.0, 5.0, 1.0, 0.05)]


@pytest.mark.parametrize(("beta", "kappa", "rho", "step"), CASES)
def test_the_function_goes_through_its_points(beta, kappa, rho, step):
    f = problems()["kappa2"](beta=beta, mu=beta / kappa, rho=rho, lr=step / beta)
    points, slopes, values = five_points(Q(step) * THETA / 2, Q(kappa) * Q(step) * THETA / 2, Q(1))
    x = np.array([[float(v) for v in points[name]] for name in points]) * rho
    g = np.array([[float(v) for v in slopes[name]] for name in points]) * beta * rho
    assert np.allclose(f.gradient(x), g, rtol=0, atol=1e-13 * beta * rho)
    expected = [float(values[name]) * beta * rho**2 for name in ("x*", "x+", "x-")]
    assert f.gap(x)[[list(points).index(name) for name in ("x*", "x+", "x-")]] == pytest.approx(expected, abs=2 * f.resolution)
    assert theorems()["kappa2"].bound(beta=beta, mu=beta / kappa, rho=rho, lr=step / beta) == pytest.approx(
        expected[1], rel=1e-12
    )


def of(name):
    given = {"beta": 2.0, "mu": 0.1, "rho": 0.5, "lr": 0.05}
    return problems()[name](**given, **({"slope": 0.65} if name == "wedge" else {}))


@pytest.mark.parametrize("name", ["kappa2", "wedge"])
def test_it_is_in_its_class(name):
    """The same inequalities, between random points near and far."""
    f, rng = of(name), np.random.default_rng(0)
    x, y = rng.normal(size=(2, 20_000, 2)) * 10.0 ** rng.uniform(-3, 1, (2, 20_000, 1))
    gx, gy, gaps = f.gradient(x), f.gradient(y), f.gap(x) - f.gap(y)
    d, g, share = x - y, gx - gy, f.mu / f.beta
    squares = (g**2).sum(1) / f.beta + f.mu * (d**2).sum(1) - 2 * share * (g * d).sum(1)
    least = (gy * d).sum(1) + squares / (2 * (1 - share))
    assert (gaps >= least - 1e-12 * (1 + f.gap(x) + f.gap(y))).all()
    assert np.isclose(gaps, least, rtol=1e-6, atol=1e-12).any()  # the constants are no smaller


def test_kappa2_is_the_envelope_of_four_lines():
    """The lines are read off at x_+- and y_+-; the envelope is the value of its dual problem, found by a general solver."""
    f, mu, smooth = of("kappa2"), 0.1, 1.9
    q = 0.05 * 2.0 * 0.75 / 2
    at = 0.5 * np.array([[0.0, q * 0.8], [0.6, q * 0.8 + 0.8]])
    at = np.concatenate([at, at * [1, -1]])
    slopes = f.gradient(at) - mu * at
    heights = f.gap(at) - mu * (at**2).sum(1) / 2 + (slopes**2).sum(1) / (2 * smooth) - (slopes * at).sum(1)
    rng = np.random.default_rng(1)
    for z in np.concatenate([rng.normal(0, 0.3, (30, 2)), rng.normal(0, 3, (10, 2))]):
        found = optimize.minimize(
            lambda w, z=z: -(z @ slopes.T @ w - ((slopes.T @ w) ** 2).sum() / (2 * smooth) + heights @ w),
            np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-15, "maxiter": 500},
        )  # fmt: skip
        assert float(f.gap(z[None])[0]) == pytest.approx(mu * z @ z / 2 - found.fun, rel=1e-6, abs=1e-9)


def test_the_wedge_is_the_distance_to_a_wedge():
    f, tan = of("wedge"), 0.65 * 0.1 / 2.0
    z = np.random.default_rng(2).normal(size=(500, 2))
    edge = np.array([1.0, tan]) / math.hypot(1.0, tan)
    up = np.abs(z) * [0, 1] + z * [1, 0]
    nearest = np.maximum(up @ edge, 0)[:, None] * edge
    inside = up[:, 1] <= tan * up[:, 0]
    square = np.where(inside, 0.0, ((up - nearest) ** 2).sum(1))
    assert np.allclose(f.gap(z), 0.1 * (z**2).sum(1) / 2 + 1.9 * square / 2, rtol=1e-12)


def steps_of_sam(f, x, lr, rho, steps):
    """By hand, one point."""
    for _ in range(steps):
        g = f.gradient(x[None])[0]
        x = x - lr * f.gradient((x + rho * g / math.hypot(*g))[None])[0]
    return x


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_kappa2_is_kept_by_both_engines(engine):
    f = problems()["kappa2"](beta=1.0, mu=0.01, rho=1.0, lr=0.05)
    x0 = np.array([0.0, 0.015])
    assert np.allclose(steps_of_sam(f, x0, 0.05, 1.0, 3), [0.0, -0.015], rtol=0, atol=1e-15)
    run = simulate(f, method="sam", lr=0.05, rho=1.0, steps=2001, x0=x0, engine=engine, means=False)
    assert np.allclose(run.x_final.values[0], [0.0, -0.015], rtol=0, atol=1e-14)
    assert float(f.gap(run.x_final.values)[0]) == pytest.approx(0.006440625, rel=1e-12)
    assert 0.006440625 / floor(1.0, 0.01, 1.0, 0.05) == pytest.approx(0.2061 * 0.95**2)  # tau has a factor 1/(1 - beta lr)
    assert pytest.approx(20.61) == 0.006440625 * 8 / 0.05**2  # over beta^3 lr^2 rho^2/8


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize(
    ("kappa", "lr", "s", "height", "over_quadratic", "over_floor"),
    [
        (10, 0.01, 0.61, 2.281041e-5, 1.807, 0.1789),
        (30, 0.0033, 0.68, 6.365312e-6, 4.661, 0.1548),
        (100, 0.001, 0.72, 1.850796e-6, 14.79, 0.1478),
    ],
)
def test_the_wedge_keeps_its_cycle(kappa, lr, s, height, over_quadratic, over_floor, engine):
    given = {"beta": 1.0, "mu": 1 / kappa, "rho": 1.0, "lr": lr, "slope": s}
    f, (point, _) = problems()["wedge"](**given), cycle("wedge", **given)
    start = np.array(point) * (1 + 1e-9)
    run = simulate(f, method="sam", lr=lr, rho=1.0, steps=2000, x0=start, engine=engine, means=False)
    assert float(f.gap(run.x_final.values)[0]) == pytest.approx(height, rel=1e-6)
    assert height / theorems()["c1"].bound(curvature=1.0, rho=1.0, lr=lr) == pytest.approx(over_quadratic, rel=1e-3)
    assert height / floor(1.0, 1 / kappa, 1.0, lr) == pytest.approx(over_floor, rel=1e-3)
    x = steps_of_sam(f, np.array(point), lr, 1.0, 1)
    assert np.allclose(x, [point[0], -point[1]], rtol=1e-12)


SUPREMA = {4: 0.329, 10: 0.417, 30: 0.593, 100: 0.751, 1e3: 0.914, 1e4: 0.972, 1e6: 0.997}


@pytest.mark.parametrize("kappa", SUPREMA)
def test_the_family_comes_as_close_to_the_floor_as_it_should(kappa):
    """The worst shape itself, and a run of its function at a small lr."""
    thetas = np.linspace(1 / kappa, 1, 200_001)[1:-1]
    square = kappa * thetas * (1 + 1 / kappa - thetas)  # 1/e_2^2, on the edge of what exists as lr -> 0
    shares = thetas**2 * (1 - (1 - 1 / kappa) / square)
    assert supremum(kappa) == pytest.approx(shares.max(), rel=1e-6)
    assert supremum(kappa) == pytest.approx(SUPREMA[kappa], abs=6e-4)
    mu, lr, (e, theta) = 1 / kappa, 1e-4 * kappa**-0.5, worst_shape(1 / kappa)
    theta *= 1 - 2e-4
    assert room(mu, lr, e, theta) > 0
    f, start = two_cycle(mu, lr, e, theta), [0.0, lr * theta / 2 * e[1]]
    run = simulate(f, method="sam", lr=lr, rho=1.0, steps=1000, x0=start, means=False)
    left = float(f.gap(run.x_final.values)[0])
    assert left == pytest.approx(gap(mu, lr, e, theta), rel=1e-6)
    assert 0.999 * supremum(kappa) < left / floor(1.0, mu, 1.0, lr) < supremum(kappa)


def test_the_power_of_kappa_in_t1d_is_right():
    kappa, steps = 100.0, 100_000
    f = problems()["wedge"](beta=1.0, mu=1 / kappa, rho=1.0, lr=1e-3, slope=0.7)
    lr = theorems()["t1d"].step_size(beta=1.0, mu=1 / kappa)
    run = simulate(f, method="sam", lr=lr, rho=1.0, steps=steps, x0=[0.5, 0.05], means=False)
    limit = theorems()["t1d"].bound(
        beta=1.0, mu=1 / kappa, rho=1.0, steps=steps, delta=float(f.gap(np.array([[0.5, 0.05]]))[0])
    )
    left = float(f.gap(run.x_final.values)[0])
    assert limit / 27.1 < left < limit
    assert left > 14 * limit / (4 * kappa)  # where a quadratic is


@pytest.mark.parametrize(("changes", "message"), [
    ({"mu": 0.25, "lr": 0.25}, r"kappa2: beta/mu=4 must exceed 13/3"),
    ({"mu": 0.125, "lr": 1.5 / 8**0.5}, r"kappa2: lr=0\.53033 must be at most 0\.197878 for beta/mu=8"),
    ({"rho": 0.0}, "rho=0 must be > 0"),
    ({"mu": 2.0}, "mu <= beta"),
])  # fmt: skip
def test_kappa2_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        problems()["kappa2"](**{"beta": 1.0, "mu": 0.01, "rho": 1.0, "lr": 0.05, **changes})


@pytest.mark.parametrize(("changes", "message"), [
    ({"lr": 2.1}, r"wedge: lr=2\.1 must be below 2\.0\d+; beyond, this function has no such cycle"),
    ({"slope": 0.0}, "slope=0"),
    ({"rho": 0.0}, "rho=0 must be > 0"),
])  # fmt: skip
def test_wedge_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        problems()["wedge"](**{"beta": 1.0, "mu": 0.1, "rho": 1.0, "lr": 0.01, "slope": 0.6, **changes})
