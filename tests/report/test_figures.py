"""The figures show what they claim: plotted numbers against formulas and recursions written out here."""

import math
import pickle
import re

import numpy as np
import pytest

from sharpmin.report import figures
from sharpmin.report._style import PALETTE
from sharpmin.report.datasets import CONSTANT, DECAYING, RAW
from sharpmin.theory import InverseTime, problems, samples, simulate, theorems
from sharpmin.theory._problems.e1 import e1_shape


def curves(figure):
    """Name: (x, y), of the traces that have a name; several of the same name are listed."""
    found = {}
    for trace in figure.data:
        if trace.name:
            found.setdefault(trace.name, []).append((np.asarray(trace.x, float), np.asarray(trace.y, float)))
    return found


def test_drawing_is_pure(data, plates):
    before = pickle.dumps(data)
    again = figures.draw(data)
    assert [f.to_json() for p in again for _, f in p.panels] == [f.to_json() for p in plates.values() for _, f in p.panels]
    assert pickle.dumps(data) == before


def test_every_figure_has_one_sentence_and_belongs_to_a_claim(plates):
    for plate in plates.values():
        assert re.fullmatch(r"[^?!]*\.", plate.sentence), plate.sentence
        assert not re.search(r"\. [A-Z]", plate.sentence)
        assert plate.claims
        names = {trace.name for _, figure in plate.panels for trace in figure.data}
        assert {key.name for key in plate.keys} <= names  # the legend names what is there


def test_trajectories_follow_the_recursion(data, plates):
    lr, rho = data.trajectories.lr, data.trajectories.rho
    drawn = curves(plates["trajectories"].panels[0][1])
    radius = {CONSTANT: lambda t, n: rho, DECAYING: lambda t, n: rho / math.sqrt(t + 1), RAW: lambda t, n: rho / 8 * n}

    def slope(v):
        return 2 * (v[0] * v[1] - 1) * v[::-1]

    for name, climb in radius.items():
        v, path = np.array([2.6, 0.9]), []
        for t in range(30):
            path.append(v)
            g = slope(v)
            n = np.linalg.norm(g)
            v = v - lr * slope(v + climb(t, n) * g / n)
        ((x, y),) = drawn[name]
        assert np.allclose(np.stack([x, y], axis=1)[:30], path, atol=1e-9)


def test_the_sentence_on_trajectories_is_true(data):
    last = {name: value[-50:].max() for name, value in data.trajectories.values.items()}
    assert last[CONSTANT] > 1e-3
    assert 1e-4 > last[DECAYING] > last[RAW]
    assert np.allclose(data.trajectories.paths[CONSTANT][-1], 1, atol=0.05)  # the flattest minimum of (xy - 1)^2


def test_two_cycle_is_at_the_radius_of_c1(data, plates):
    lr, lam, rho = data.two_cycle.lr, data.two_cycle.lam, data.two_cycle.rho
    r = lr * lam * rho / (2 - lr * lam)
    _, last = plates["two-cycle"].panels[1]
    runs = curves(last)
    assert [y.tolist() for _, y in runs.pop("±r")] == [pytest.approx([r, r]), pytest.approx([-r, -r])]
    assert len(runs) == 2
    for ((x, y),) in runs.values():
        assert len(x) == 40
        assert np.allclose(abs(y), r, rtol=1e-6)
        assert (y[1:] * y[:-1] < 0).all()
    assert f"{r:.4g}" in plates["two-cycle"].sentence


def test_rates_lie_between_their_bounds(data, plates):
    for (caption, figure), rate in zip(plates["rates"].panels, data.rates, strict=True):
        assert caption == f"κ = {rate.kappa:g}"
        drawn, mu, known = curves(figure), 1 / rate.kappa, theorems()
        steps = drawn["T1, measured"][0][0]
        for name, (_, upper) in zip(("t1", "t1d"), drawn["upper bounds"], strict=True):
            k = {"beta": 1.0, "mu": mu, "rho": 0.5, "delta": 0.5}
            assert upper.tolist() == [known[name].bound(steps=int(t), **k) for t in steps]
        lower = drawn["lower bound (T2)"][0][1]
        assert np.allclose(lower, 0.25 / (8 * mu**2 * steps**2))
        for name, (_, upper) in zip(("T1", "T1d"), drawn["upper bounds"], strict=True):
            measured = drawn[f"{name}, measured"][0][1]
            assert (measured <= upper).all()
            assert (measured[-4:] >= lower[-4:]).all()
        x = 1.0
        lr = known["t1"].step_size(beta=1.0, mu=mu, rho=0.5, steps=int(steps[2]), delta=0.5)
        for _ in range(int(steps[2])):
            x -= lr * (x + 0.5 * math.copysign(1.0, x))
        assert drawn["T1, measured"][0][1][2] == pytest.approx(x * x / 2, rel=1e-9)
        slope = float(re.search(r"slope (−\d\.\d\d)", figure.layout.annotations[0].text)[1].replace("−", "-"))
        assert slope == pytest.approx(-2, rel=0.05)


def test_shares_of_the_floor_are_those_of_the_statements(data, plates):
    (_, shares), (_, path) = plates["kappa"].panels
    drawn, bound = curves(shares), {name: theorems()[name].bound for name in ("c1", "kappa2")}
    for kappa, quadratic, wedge, high, most in zip(drawn["KAPPA2"][0][0], *(drawn[name][0][1] for name in drawn), strict=True):
        mu, lr = 1 / kappa, 0.1 / kappa
        floor = max((lr / (2 * (1 - lr))) ** 2 / (2 * mu), lr**2 / 2)
        assert quadratic == pytest.approx(bound["c1"](curvature=1.0, rho=1.0, lr=lr) / floor, rel=1e-6)
        assert high == pytest.approx(bound["kappa2"](beta=1.0, mu=mu, rho=1.0, lr=lr) / floor, rel=1e-6)
        assert quadratic < wedge < high < most < 1
        assert wedge > 0.14  # a share that does not fall with kappa
    ((x, y),), ((least, _),) = curves(path)["iterates"], curves(path)["minimum"]
    f = problems()["kappa2"](beta=1.0, mu=1 / 30, rho=1.0, lr=0.09)
    assert f.gap(np.array([[float(least[0]), 0.0]]))[0] == pytest.approx(0, abs=1e-15)
    gaps = f.gap(np.stack([x, y], axis=1))
    assert gaps.min() < gaps[-1] / 5  # it was close, and climbed
    assert gaps[-1] == pytest.approx(bound["kappa2"](beta=1.0, mu=1 / 30, rho=1.0, lr=0.09), rel=0.01)


def test_virtual_loss_is_the_integral_of_the_step(data, plates):
    """Its difference quotients are the mean directions of one step of the simulator, sample by sample."""
    for (_, figure), instance in zip(plates["virtual-loss"].panels, data.virtual, strict=True):
        f, ((x, loss),) = instance.problem, curves(figure)["virtual loss"]
        mean, lr = np.zeros_like(x), 0.25
        for i, weight in enumerate(f.probabilities):
            seed = next(s for s in range(100) if len(f.probabilities) == 1 or samples(f, s, 0)[0] == i)
            method = "sam" if len(f.probabilities) == 1 else "m-sam"
            run = simulate(f, method=method, lr=lr, rho=instance.rho, steps=1, x0=x, seeds=seed, means=False)
            mean += weight * (x - run.x_final.values) / lr
        assert np.allclose(np.diff(loss) / np.diff(x), (mean[1:] + mean[:-1]) / 2, atol=1e-9)


def test_sam_rests_at_a_minimum_of_the_virtual_loss_only(data, plates):
    expected = {"trap": 0.0, "e1": e1_shape(1.0, 0.1, 1.0, None, None)[1], "e3": -0.5}
    for (_, figure), instance in zip(plates["virtual-loss"].panels, data.virtual, strict=True):
        ((x, y),) = curves(figure)["where SAM converges"]
        assert x[0] == pytest.approx(expected[instance.problem.name], abs=2e-3)
        assert abs(instance.problem.gradient(x)[0]) > 0.1  # no stationary point of f
        grid, loss = curves(figure)["virtual loss"][0]
        near = abs(grid - x[0]) < 0.05
        assert loss[near].min() == pytest.approx(y[0], abs=1e-6)


def test_floors_have_slope_two_and_the_heights_of_the_statements(data, plates):
    text = " ".join(note.text for _, figure in plates["floors"].panels for note in figure.layout.annotations)
    slopes = [float(s) for s in re.findall(r"slope (\d\.\d+)", text)]
    assert slopes == pytest.approx([2, 2, 2, 2], rel=0.01)
    drawn = {k: v[0] for _, figure in plates["floors"].panels for k, v in curves(figure).items()}
    rho, quadratic = drawn["Quadratic (C1), SAM"]
    assert np.allclose(quadratic, [theorems()["c1"].bound(curvature=2.0, rho=r, lr=0.15) for r in rho])
    assert np.allclose(drawn["TRAP, SAM"][1], (0.3 * rho) ** 2)
    center = e1_shape(1.0, 0.1, 1.0, None, None)[1]
    assert np.allclose(drawn["E1, m-SAM"][1], 0.1 * (center * rho) ** 2 / 2)
    assert np.allclose(drawn["E3, m-SAM"][1], (0.8 * rho) ** 2, rtol=0.05)


def test_constant_rho_stays_on_its_floor_and_the_others_pass_it(plates):
    floor = {
        "Quadratic": theorems()["c1"].bound(curvature=2.0, rho=0.4, lr=0.15),
        "TRAP": (0.75 * 0.5) ** 2,
        "E1": 0.1 * e1_shape(1.0, 0.1, 1.0, None, None)[1] ** 2 / 2,
        "E3": (0.5 * 0.5) ** 2 / 2,
    }
    for caption, figure in plates["simulations"].panels:
        drawn, height = curves(figure), floor[re.match(r"\w+", caption)[0]]
        assert drawn[CONSTANT][0][1][-1] == pytest.approx(height, rel=0.05)
        for name in (DECAYING, RAW):
            _, y = drawn[name][0]
            assert not np.nanmin(y[y > 0]) > height / 10


def test_digits_are_replayed(plates):
    drawn, f = curves(plates["digits"].panels[0][1]), problems()["digits"]()
    lr = InverseTime(f.mu, 2 * f.beta / f.mu)
    for name, method, lanes in ((CONSTANT, "m-sam", 2), ("full batch, constant ρ", "sam", 1)):
        t, gap = drawn[name][0]
        k = 6
        run = simulate(f, method=method, lr=lr, rho=0.5, steps=int(t[k]), x0=np.zeros((lanes, f.dim)), seeds=range(lanes))
        assert f.gap(run.x_final.values).mean() == pytest.approx(gap[k], rel=1e-9)
    last = {name: y[-1] for name, ((_, y),) in drawn.items()}
    assert last[DECAYING] < last[CONSTANT]
    t, full = drawn["full batch, constant ρ"][0]
    assert full.min() < np.interp(t[np.argmin(full)], *drawn[CONSTANT][0])


def contrast(one, other):
    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("role", ["ink", "soft", "orange", "blue", "green", "purple"])
def test_colors_are_readable(role, scheme):
    for ground in ("page", "card"):
        assert contrast(PALETTE[role][scheme], PALETTE[ground][scheme]) >= 4.5  # WCAG AA for text


def test_every_color_of_a_figure_has_a_dark_partner(plates):
    lights = [light for light, _ in PALETTE.values()]
    assert len(set(lights)) == len(lights)  # the page maps light to dark
    for plate in plates.values():
        for _, figure in plate.panels:
            assert set(re.findall(r'"(#[0-9a-f]{3,8})"', figure.to_json())) <= set(lights)
