"""The simulator against the equations written in plain Python, one lane at a time, and against known endpoints."""

import math
from pathlib import Path

import numpy as np
import pytest

from sharpmin import rho as schedules
from sharpmin.theory import InverseTime, problems, samples, simulate
from sharpmin.theory._problems.dense import DiagonalQuadratic, Noisy
from sharpmin.theory._simulation import simulate as module

P = problems()
METHODS = ["gd", "sgd", "sam", "usam", "m-sam", "n-sam", "m-usam", "n-usam"]
ONE_D = {
    "quadratic": lambda: P["quadratic"](curvatures=[2.0]),
    "trap": lambda: P["trap"](theta=0.125, beta=2.0, rho=0.5),
    "e1": lambda: P["e1"](beta=1.0, mu=0.1, rho=1.0),
    "e5": lambda: P["e5"](theta=0.25, s=0.2, beta=2.0, rho=0.5),
}


def by_hand(f, method, lr, rho, steps, x, seed, clip=None):
    """x_T, mean u^2, min u^2 and mean f(y) - f*, from the equations and floats alone."""
    squares, gaps = [], []
    for t in range(steps):
        first = second = f.mean
        if method[:2] in ("m-", "n-") or method == "sgd":
            xi, other = samples(f, seed, t)
            first, second = f.components[xi], f.components[other if method[0] == "n" else xi]
        g = first(x)
        y = x
        if "usam" in method:
            y = x + rho * g
        elif "sam" in method:
            y = x + (rho * g / abs(g) if g else 0.0)
        big = second(y) if "sam" in method else g
        d = big
        if clip is not None and big != g:
            d = g + min(1.0, clip * abs(g) / abs(big - g)) * (big - g)
        squares.append(f.mean(x) ** 2)
        gaps.append(f.gap(np.array([y]))[0])
        x -= lr * d
    return x, math.fsum(squares) / steps, min(squares), math.fsum(gaps) / steps


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", ONE_D)
@pytest.mark.parametrize("method", METHODS)
def test_equals_the_equations(method, name, clip):
    f, lr, rho, steps = ONE_D[name](), 0.13, 0.3, 60
    starts, seeds = [0.2, -1.7, 2.9], [4, 0, 17]
    run = simulate(f, method=method, lr=lr, rho=rho, steps=steps, x0=starts, seeds=seeds, clip=clip)
    for lane, (x0, seed) in enumerate(zip(starts, seeds, strict=True)):
        expected = by_hand(f, method, lr, rho, steps, x0, seed, clip)
        got = [float(run[k][lane]) for k in ("x_final", "mean_square_gradient", "min_square_gradient", "mean_perturbed_gap")]
        assert got == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_lanes_do_not_touch_each_other(method):
    f = P["e1"](beta=1.0, mu=0.1, rho=1.0)
    lr, rho, x0, seeds = [0.1, 0.5, 1.5], [0.0, 0.3, 1.0], [1.0, -2.0, 3.0], [1, 1, 2]
    together = simulate(f, method=method, lr=lr, rho=rho, steps=30, x0=x0, seeds=seeds)
    for i in range(3):
        alone = simulate(f, method=method, lr=lr[i], rho=rho[i], steps=30, x0=x0[i], seeds=seeds[i])
        for name in together.data_vars:
            assert float(alone[name][0]) == float(together[name][i]), name


@pytest.mark.parametrize("dim", [2, 5])
def test_a_diagonal_quadratic_in_the_norm_of_the_whole_vector(dim):
    lam, x, rho, lr = np.linspace(0.5, 2.0, dim), np.linspace(-1.0, 1.5, dim), 0.2, 0.3
    run = simulate(P["quadratic"](curvatures=list(lam)), method="sam", lr=lr, rho=rho, steps=20, x0=x)
    for _ in range(20):
        g = lam * x
        x = x - lr * lam * (x + rho * g / np.linalg.norm(g))
    assert run.x_final.values[0] == pytest.approx(x, abs=1e-13)


@pytest.mark.parametrize(("method", "same"), [("usam", "sam"), ("m-usam", "m-sam"), ("n-usam", "n-sam")])
def test_unnormalized_methods_are_a_radius_schedule(method, same):
    f = P["e1"](beta=1.0, mu=0.1, rho=1.0)
    k = {"lr": 0.2, "steps": 50, "x0": [1.0, 2.0], "seeds": [0, 1]}
    a = simulate(f, method=method, rho=0.4, **k)
    b = simulate(f, method=same, rho=schedules.Unnormalized(0.4), **k)
    assert np.allclose(a.x_final, b.x_final, rtol=1e-12)


def test_schedules_see_the_step_and_the_lr():
    f = P["quadratic"](curvatures=[1.0])
    lr, decay = InverseTime(1.0, 4.0), schedules.ProportionalToLR(0.5, lr=0.5, power=0.5)
    run = simulate(f, method="sam", lr=lr, rho=decay, steps=10, x0=3.0)
    x = 3.0
    for t in range(10):
        step = 2 / (t + 4)
        x -= step * (x + 0.5 * math.sqrt(step / 0.5) * np.sign(x))
    assert float(run.x_final[0]) == pytest.approx(x, abs=1e-13)


REMEDIES = [
    ({"method": "sam", "rho": 0.5}, 0.75),
    ({"method": "usam", "rho": 0.25}, 0.0),
    ({"method": "usam", "rho": 0.5}, 0.35),
    ({"method": "sam", "rho": schedules.Capped(0.5, c=0.25)}, 0.0),
    ({"method": "sam", "rho": 0.5, "clip": 0.5}, 0.0),
]


@pytest.mark.parametrize(("options", "slope"), REMEDIES)
def test_remedies_on_the_trap(options, slope):
    f = P["trap"](theta=0.125, beta=2.0, rho=0.5)
    run = simulate(f, lr=0.25, steps=400, x0=0.2, **options)
    assert abs(f.gradient(run.x_final.values)[0]) == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize(
    ("method", "rho", "end"),
    [("sam", 0.1, 0.005263157894736842), ("usam", 0.1, 0.0), ("sam", schedules.InverseSqrt(0.1), 0.0)],
)
def test_a12_the_floor(method, rho, end):
    run = simulate(
        P["quadratic"](curvatures=[1.0]), method=method, lr=0.1, rho=rho, steps=20_000, x0=1.0, record=[19_999, 20_000]
    )
    tolerance = 1e-4 if isinstance(rho, schedules.InverseSqrt) else 1e-12
    assert abs(float(run.x_final[0])) == pytest.approx(end, abs=tolerance)
    if rho == 0.1 and method == "sam":
        before, after = run.x.values[:, 0]
        assert before == pytest.approx(-after, abs=1e-12)


def test_a12_in_two_dimensions_ends_on_the_steep_axis():
    run = simulate(P["quadratic"](curvatures=[1.0, 4.0]), method="sam", lr=0.1, rho=0.1, steps=20_000, x0=[1.0, 1.0])
    assert np.abs(run.x_final.values[0]) == pytest.approx([0.0, 0.025], abs=1e-12)


@pytest.mark.parametrize(("rho", "limit"), [(0.5, 0.744186), (1.0, 0.785714)])
def test_m_usam_moves_the_fixed_point(rho, limit):
    from sharpmin.theory import Hinge, HingeProblem

    f = HingeProblem("us", (Hinge(-1.0, 1.0), Hinge(0.2, 0.2)), (0.5, 0.5))
    run = simulate(f, method="m-usam", lr=0.002, rho=rho, steps=6000, x0=limit, seeds=np.arange(400), means=False)
    values = run.x_final.values
    assert abs(values.mean() - limit) < 5 * values.std() / 20
    unperturbed = simulate(f, method="sgd", lr=0.002, steps=6000, x0=limit, seeds=np.arange(400), means=False).x_final.values
    assert abs(unperturbed.mean() - 0.666667) < 5 * unperturbed.std() / 20


def test_a_zero_gradient_stays():
    run = simulate(P["quadratic"](curvatures=[2.0]), method="sam", lr=0.1, rho=0.5, steps=5, x0=0.0)
    assert float(run.x_final[0]) == 0.0


def test_divergence_is_a_result():
    run = simulate(P["quadratic"](curvatures=[1.0]), method="gd", lr=3.0, steps=5000, x0=1.0)
    assert not np.isfinite(run.x_final.values).any()


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_divergence_is_no_warning_where_values_are_recorded(engine):
    f = P["trap"](theta=0.125, beta=2.0, rho=0.5)
    run = simulate(f, method="usam", lr=3.0, rho=9.0, steps=999, x0=1.0, record=[999], engine=engine)
    assert not np.isfinite(run.value.values).any()


def test_record_holds_x_and_value_at_the_steps_asked_for():
    f = P["quadratic"](curvatures=[1.0, 4.0])
    run = simulate(f, method="gd", lr=0.1, steps=7, x0=[1.0, 1.0], record=[7, 0, 3])
    assert run.record.values.tolist() == [0, 3, 7]
    assert run.x.dims == ("record", "lane", "coordinate")
    assert run.x.values[0, 0].tolist() == [1.0, 1.0]
    assert (run.x.values[-1] == run.x_final.values).all()
    assert run.value.values[1] == pytest.approx(f.value(run.x.values[1]))


def test_without_means_the_statistics_are_left_out():
    run = simulate(P["quadratic"](curvatures=[1.0]), method="gd", lr=0.1, steps=1, x0=1.0, means=False)
    assert list(run.data_vars) == ["x_final"]


BAD = [
    ({"method": "msam"}, "must be one of"),
    ({"rho": None}, "method='sam' perturbs the weights, so it needs rho"),
    ({"x0": float("nan")}, "x0=nan must be finite"),
    ({"steps": 0}, "steps=0"),
    ({"record": [6]}, "record"),
    ({"clip": 1.0}, "clip=1.0"),
    ({"lr": -0.1}, "lr=-0.1"),
    ({"rho": float("nan")}, "rho=nan"),
    ({"seeds": 0.5}, "seeds=0.5"),
    ({"seeds": [-1]}, "seeds"),
    ({"lr": [0.1, 0.2], "x0": [1.0, 2.0, 3.0]}, "broadcast"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_input_is_refused(changes, message):
    k = {"method": "sam", "lr": 0.1, "rho": 0.1, "steps": 5, "x0": 1.0, **changes}
    with pytest.raises(ValueError, match=message):
        simulate(P["quadratic"](curvatures=[1.0]), **k)


def test_steps_are_an_integer():
    with pytest.raises(TypeError, match=r"steps=5\.5"):
        simulate(P["quadratic"](curvatures=[1.0]), method="gd", lr=0.1, steps=5.5, x0=1.0)


def test_a_start_needs_the_dimension_of_the_problem():
    with pytest.raises(ValueError, match="last axis of length 2"):
        simulate(P["quadratic"](curvatures=[1.0, 2.0]), method="gd", lr=0.1, steps=1, x0=[1.0, 2.0, 3.0])


@pytest.mark.parametrize(("name", "lanes"), [("seeds", range(10**11)), ("seeds", range(10**30)), ("rho", range(10**12))])
def test_lanes_that_memory_cannot_hold_are_refused_before_one_is_made(name, lanes):
    k = {"method": "m-sam", "lr": 0.1, "rho": 0.1, "steps": 3, "x0": 1.0}
    with pytest.raises(ValueError, match=r"lanes need at least .* GiB of memory.*at most \d+ lanes at a time"):
        simulate(P["e1"](beta=1.0, mu=0.1, rho=1.0), **{**k, name: lanes})


def test_what_a_lane_needs(monkeypatch):
    """Room for 1 MiB: (12 + 10 dim) numbers a lane, and three a draw where the reference engine draws."""
    monkeypatch.setattr("sharpmin.theory._simulation.simulate._memory", lambda: 2**21)
    f, k = P["e1"](beta=1.0, mu=0.1, rho=1.0), {"lr": 0.1, "rho": 0.1, "x0": 1.0}
    assert simulate(f, method="m-sam", steps=2, seeds=range(5957), **k).sizes["lane"] == 2**20 // (22 * 8) == 5957
    with pytest.raises(ValueError, match=r"5958 lanes .* at most 5957 lanes at a time"):
        simulate(f, method="m-sam", steps=2, seeds=range(5958), **k)
    noisy = Noisy(DiagonalQuadratic((1.0, 4.0)), ((0.5, -1.0), (-0.5, 1.0)))
    most = 2**20 // ((32 + 3 * 2 * 100) * 8)
    with pytest.raises(ValueError, match=f"at most {most} lanes at a time"):
        simulate(noisy, method="n-sam", steps=100, seeds=range(1000), lr=0.1, rho=0.1, x0=[1.0, 1.0])


def test_memory_is_what_the_machine_says():
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        pytest.skip("no /proc/meminfo")
    (total,) = (int(line.split()[1]) for line in meminfo.read_text().splitlines() if line.startswith("MemTotal:"))
    assert module._memory() == pytest.approx(total * 1024, rel=0.01)


@pytest.mark.parametrize("error", [AttributeError, ValueError, OSError])
def test_a_machine_that_does_not_say_has_8_gib(error, monkeypatch):
    def sysconf(name):
        raise error(name)

    monkeypatch.setattr(module.os, "sysconf", sysconf)
    with pytest.raises(ValueError, match=rf"half of this machine's is 4 GiB.*at most {4 * 2**30 // (22 * 8)} lanes"):
        simulate(P["quadratic"](curvatures=[1.0]), method="gd", lr=0.1, steps=1, x0=1.0, seeds=range(10**9))
