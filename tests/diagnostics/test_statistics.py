"""The statistics of a window against loops over the formulas, on block means made up for it."""

import math

import numpy as np
import pytest
import torch

from sharpmin.diagnostics import Floor, Log, Numbers, State, Window
from sharpmin.diagnostics._run.rows import encode
from sharpmin.diagnostics._run.statistics import scaling
from sharpmin.diagnostics._run.stretch import MOST_BLOCKS
from sharpmin.diagnostics._run.verdict import SHARE, decide, diagnose
from sharpmin.diagnostics._run.window import HORIZON

B, STEPS = 12, 50


def log(g, d, *, scalars=None, run=None, lr=0.1, rho=0.2, **sketches):
    """A log with these block means."""
    made = Log()
    made.add({"kind": "run", "version": 1, "momentum": 0.0, "adaptive": False, **(run or {})})
    base = {"gg": 2.0, "dg": 0.5, "dd": 0.3, "norm_g": 1.4, "norm_d": 0.5, "curvature": 0.4, "bounce": 0.1}
    for a in range(len(g)):
        base["loss"] = 1.5 if a else 2.2
        row = {"kind": "block", "first": a * STEPS, "last": (a + 1) * STEPS - 1, "n": 10, "steps": STEPS}
        row |= base | (scalars or {}) | {"rho": [rho, rho], "lr": [lr, lr], "g": encode(g[a]), "d": encode(d[a])}
        made.add(row | {key: encode(value[a]) for key, value in sketches.items()})
    return made


def vectors(seed, blocks=B, mean=0.0):
    return torch.randn(blocks, 256, generator=torch.Generator().manual_seed(seed)).double() + mean


G, D = vectors(1, mean=0.4), vectors(2, mean=-0.3)


def by_loops(g, d):
    n = len(g)
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    gg = sum(float(g[a] @ g[b]) for a, b in pairs)
    gd = sum(float(g[a] @ d[b]) for a, b in pairs)
    return -gd / gg


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_formulas(momentum):
    window = Window.of(log(G, D, run={"momentum": momentum}))
    n = Numbers.of(window)
    k = round(HORIZON * B * STEPS)
    tau = 0.1 / (1 - momentum) * (k - momentum * (1 - momentum**k) / (1 - momentum))
    push = -float(G.mean(0) @ D.mean(0))
    assert n.cancelled == pytest.approx(by_loops(G, D), rel=1e-5)
    assert n.horizon == k
    assert n.upper == pytest.approx(tau * push, rel=1e-5)
    assert n.drop == pytest.approx(math.sqrt(tau * (1 - math.exp(-0.8 * tau)) / 0.8) * push, rel=1e-5)
    assert n.lower == pytest.approx((1 - math.exp(-2 * 2.5 * tau)) / 5 * push, rel=1e-5)
    assert (n.amplification, n.bounce, n.smoothness, n.loss) == (0.25, 0.1, 2.5, 1.5)
    mean = sum(float(G[a] @ G[b]) for a in range(B) for b in range(B) if a != b) / (B * (B - 1))
    assert mean > 2.0  # made-up scalars: all of the gradient is mean, and there is no noise to relieve
    assert n.relief == 0.0
    noisy = Numbers.of(Window.of(log(G, D, run={"momentum": momentum}, scalars={"gg": 100.0, "dg": 25.0})))
    assert noisy.amplified == pytest.approx(0.1 / (1 - momentum) * 0.25 * (100.0 - mean) / 4, rel=1e-5)
    assert noisy.relief == pytest.approx((1 - math.exp(-0.8 * tau)) * noisy.amplified, rel=1e-12)
    assert noisy.fall == pytest.approx(noisy.relief + noisy.drop)


def test_adam_steps_along_the_difference_by_its_own_length():
    scale = torch.linspace(0.5, 3.0, 256).double()
    window = Window.of(log(G, D, run={"adaptive": True}, pd=D / scale, pg=G / scale))
    gb, db = G.mean(0), D.mean(0)
    assert scaling(window) == pytest.approx(abs(float(gb @ (db / scale)) / float(gb @ db)), rel=1e-5)


def test_the_interval_is_the_jackknife():
    low, high = Numbers.of(Window.of(log(G, D))).cancelled_interval
    left_out = [by_loops(torch.cat([G[:a], G[a + 1 :]]), torch.cat([D[:a], D[a + 1 :]])) for a in range(B)]
    error = math.sqrt((B - 1) / B * sum((v - np.mean(left_out)) ** 2 for v in left_out))
    assert (low, high) == pytest.approx((by_loops(G, D) - 1.96 * error, by_loops(G, D) + 1.96 * error), rel=1e-4)


def test_the_p_value_has_its_size_where_the_mean_is_0_and_power_where_it_is_not():
    null = [Numbers.of(Window.of(log(G, vectors(100 + k)))).p_value for k in range(100)]
    assert sum(p < 0.05 for p in null) <= 12  # 5 expected; 12 or more: 0.4 %
    assert 0.3 < np.mean(null) < 0.7
    assert Numbers.of(Window.of(log(G, D))).p_value == pytest.approx(1 / 2001)


def test_a_gradient_that_the_window_does_not_resolve():
    flips = G * torch.tensor([1.0, -1.0] * 6).double()[:, None]
    n = Numbers.of(Window.of(log(flips, D)))
    assert n.cancelled is None
    assert n.cancelled_interval is None


@pytest.mark.parametrize(("big", "right"), [(0.3, 0.3), (0.0, 0.0), ("to and fro", None)])
def test_the_mean_gradient_at_the_perturbed_weights(big, right):
    """Against a mean gradient that is the same in every block; where SAM's only wobbles, its length is unresolved, not 0."""
    g = torch.ones(B, 256, dtype=torch.float64)
    wobble = torch.tensor([1.0, -1.0] * (B // 2), dtype=torch.float64)[:, None] * g
    at = wobble if big == "to and fro" else big * g
    found = Numbers.of(Window.of(log(g, at - g))).ascending
    assert found == (None if right is None else pytest.approx(right, abs=1e-3))


def test_many_blocks_are_merged():
    g, d = vectors(1, 130), vectors(2, 130)
    window = Window.of(log(g, d))
    assert window.steps == 130 * STEPS
    assert window.blocks == 33
    np.testing.assert_allclose(
        window.sketches("g").mul(torch.tensor([4.0] * 32 + [2.0]).double()[:, None]).sum(0), g.sum(0), atol=1e-4
    )


def test_merged_blocks_weigh_as_many_steps_as_they_sketched():
    """Blocks of 1, 2, 3, ... sketched steps, three to one: the sketch of a sum over steps is that sum."""
    count = 3 * MOST_BLOCKS
    sketches = {key: vectors(seed, count) for seed, key in enumerate(("g", "d", "pd", "pg", "x"))}
    made = log(sketches["g"], sketches["d"], **{key: sketches[key] for key in ("pd", "pg", "x")})
    for a, row in enumerate(made.blocks):
        row["n"] = a + 1
    window, weight = Window.of(made), torch.arange(1.0, count + 1).double()[:, None]
    for key, rows in sketches.items():
        sums, total = ((weight * t).view(MOST_BLOCKS, 3, -1).sum(1) for t in (rows, torch.ones_like(rows)))
        np.testing.assert_allclose(window.sketches(key), sums / total, atol=1e-6)


def test_scalars_are_means_over_steps_of_the_blocks_that_have_them():
    made, steps, values = log(G, D), range(10, 10 + B), vectors(5)[:, 0].tolist()
    for row, count, value in zip(made.blocks, steps, values, strict=True):
        row |= {"steps": count, "dg": value, "last": row["first"] + count - 1}
    for row in list(made.blocks)[::2]:
        del row["curvature"]
        row["lag"] = float(row["steps"])
    found = Window.of(made).scalars
    assert found["dg"] == pytest.approx(np.average(values, weights=steps), rel=1e-12)
    assert found["lag"] == pytest.approx(np.average(steps[::2], weights=steps[::2]), rel=1e-12)
    assert found["curvature"] == pytest.approx(0.4, rel=1e-12)


def test_only_the_last_blocks_with_one_rho_and_one_lr_count():
    made = log(G, D, lr=0.3)
    for row in log(G[:7], D[:7]).blocks:
        made.add(row | {key: row[key] + 12 * STEPS for key in ("first", "last")})
    window = Window.of(made)
    assert (window.lr, window.steps) == (0.1, 7 * STEPS)
    assert window.remarks == ["the last 7 of 19 blocks are used: before them the learning rate was another"]


@pytest.mark.parametrize(("made", "words"), [(Log(), "no SAM step"), (log(G[:4], D[:4]), "4 blocks .* at least 5")])
def test_too_little(made, words):
    with pytest.raises(ValueError, match=words):
        Window.of(made)


PLAIN = {
    "p_value": 0.001, "cancelled": 0.7, "cancelled_interval": (0.5, 0.9), "drop": 0.02, "drop_interval": (0.01, 0.03),
    "lower": 0.005, "upper": 0.05, "amplified": 0.01, "relief": 0.01, "fall": 0.03, "fall_interval": (0.01, 0.05),
    "horizon": 100,
    "amplification": 0.2, "bounce": 0.1, "lag": 0.0, "curvature": 1.0, "smoothness": 2.0, "edge": 3.0, "ascending": 0.5,
    "loss": 1.0, "start": 3.0,
}  # fmt: skip
RULES = [
    ({}, State.HOLDS),
    ({"fall": 0.0051}, State.HOLDS),
    ({"fall": 0.0049}, State.UNDECIDED),
    ({"fall": 0.0049, "upper": 0.004, "amplified": 0.0004}, State.UNDECIDED),  # half of the gradient is cancelled
    ({"fall": 0.0049, "upper": 0.004, "amplified": 0.0004, "cancelled": 0.49}, State.FREE),
    ({"fall": 0.0049, "upper": 0.004, "amplified": 0.0004, "cancelled": 0.4, "start": 1.1}, State.UNDECIDED),  # not begun
    ({"fall": 0.0049, "upper": 0.004, "amplified": 0.0004, "cancelled": 0.4, "start": 1.12}, State.FREE),
    ({"fall": 0.0049, "upper": 0.004, "amplified": 0.0006, "cancelled": 0.4}, State.UNDECIDED),  # twice: an estimate
    ({"fall": 0.0049, "upper": 0.004, "amplified": 0.0004, "p_value": 1.0}, State.UNDECIDED),  # at a saddle D flips its sign
    ({"fall": 0.0049, "upper": -1.0, "amplified": 0.003}, State.UNDECIDED),  # help does not count against it
    ({"cancelled": -0.06, "fall": -0.02, "cancelled_interval": (-0.1, -0.01)}, State.HELPS),
    (
        {"cancelled": -0.06, "fall": 0.02, "cancelled_interval": (-0.1, -0.01)},
        State.HOLDS,
    ),  # the force helps, and the noise costs more
    ({"cancelled": -0.06, "fall": -0.02, "cancelled_interval": (-0.2, 0.1), "upper": 0.001, "amplified": 0.001}, State.FREE),
    ({"cancelled": -0.04, "fall": -0.02, "upper": 0.1}, State.UNDECIDED),
    ({"start": 1.2}, State.HOLDS),
    ({"start": 1.1}, State.COLLAPSE),
    ({"start": 1.1, "cancelled": 0.4}, State.HOLDS),
    ({"start": 1.1, "fall": -0.1, "upper": 1.0}, State.UNDECIDED),
    ({"start": None}, State.HOLDS),
    ({"loss": None}, State.UNDECIDED),
    ({"bounce": 1.9, "lag": -0.9}, State.TWO_CYCLE),
    ({"bounce": 1.9, "lag": -0.4}, State.HOLDS),
    ({"bounce": 1.4, "lag": -0.9}, State.HOLDS),
    ({"lag": 1.0, "ascending": 0.001}, State.TRAP),
    ({"lag": 1.0, "ascending": 0.2}, State.HOLDS),
]


@pytest.mark.parametrize(("change", "state"), RULES)
def test_the_rules(change, state):
    assert decide(Numbers(**{**PLAIN, **change})) is state


@pytest.mark.parametrize(
    ("bias", "noise", "a", "replacement", "state"),
    [
        (3.0, 1.0, 0.0, True, State.RHO_FLOOR),
        (0.1, 1.0, 0.1, True, State.NOISE_FLOOR),
        (0.1, 1.0, 0.1, False, State.MIXED),  # on reshuffled data a noise floor is never claimed
        (0.0, 1.0, 3.0, True, State.RHO_FLOOR),  # all noise, but amplified by SAM
        (1.0, 1.0, 0.0, True, State.MIXED),
    ],
)
def test_the_parts_of_a_floor(bias, noise, a, replacement, state):
    floor = Floor(bias, bias / 2, bias * 2, noise, a, replacement)
    assert decide(Numbers(**PLAIN), floor) is state
    assert floor.of_rho + floor.of_noise == pytest.approx(bias + noise)
    assert ("at most" in floor.words()[0]) is not replacement


@pytest.mark.parametrize(("mu", "gx"), [(0.01, 40.0), (0.7, 40.0), (0.01, -40.0)])
@pytest.mark.parametrize("reshuffled", [True, False, None])
def test_the_floor_is_the_covariance_of_gradient_and_position(mu, gx, reshuffled):
    """W = (mean <g, x> - <mean g, mean x>) / 2 and U = mean <D_a, D_b> over pairs, by loops; nothing below 0."""
    x = vectors(4, mean=0.2)
    window = Window.of(log(G, D, run={"mu": mu, "reshuffled": reshuffled}, scalars={"gx": gx}, x=x))
    numbers = Numbers.of(window)
    floor, lam = Floor.of(window, numbers), max(0.4, mu)
    product = sum(float(G[a] @ x[b]) for a in range(B) for b in range(B)) / B**2
    assert abs(product) > 5.0
    assert floor.noise == pytest.approx(max(0.0, (gx - product) / 2), rel=1e-6)
    squared = sum(float(D[a] @ D[b]) for a in range(B) for b in range(B) if a != b) / (B * (B - 1))
    found = (floor.bias, floor.bias_low, floor.bias_high)
    assert found == pytest.approx((squared / (2 * math.sqrt(lam * mu)), squared / (2 * lam), squared / (2 * mu)), rel=1e-5)
    assert (floor.amplification, floor.replacement) == (0.25, reshuffled is False)
    assert Floor.of(Window.of(log(G, D, run={"mu": mu}, scalars={"gx": gx})), numbers) is None
    assert Floor.of(Window.of(log(G, D, run={"mu": mu}, x=x)), numbers) is None


@pytest.mark.parametrize(
    ("run", "state", "words"),
    [
        ({"epoch": B * STEPS // 5}, State.HOLDS, None),
        ({"epoch": B * STEPS // 4}, State.UNDECIDED, "4.0 epochs; with fewer than 5"),
        ({}, State.HOLDS, None),  # 600 steps
    ],
)
def test_noise_alone_takes_five_epochs(run, state, words):
    found = diagnose(log(G, 0 * D, run=run, scalars={"gg": 100.0, "dg": 25.0}))
    assert found.numbers.drop == 0.0
    assert found.numbers.fall > SHARE * found.numbers.loss
    assert found.state is state
    assert any((words or "with fewer than") in remark for remark in found.remarks) is (words is not None)
    assert diagnose(log(G, D, run=run)).state is State.HOLDS  # by its force, however short


def test_noise_alone_takes_200_steps_where_no_epoch_is_declared():
    made = log(G, 0 * D, scalars={"gg": 100.0, "dg": 25.0})
    for row in made.blocks:
        row |= {"first": row["first"] // 5, "last": row["first"] // 5 + 9, "steps": 10}
    found = diagnose(made)
    assert (found.state, found.window.steps) == (State.UNDECIDED, 120)
    assert any("120 steps; with fewer than 200" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("share", "interval", "resolved"),
    [(0.7, (0.5, 0.9), True), (0.7, (0.1, 1.2), False), (3.0, (2.0, 4.5), True), (3.0, (1.0, 5.0), False), (0.7, None, False)],
)
def test_a_share_that_the_window_does_not_resolve_is_none(share, interval, resolved):
    n = Numbers(**{**PLAIN, "cancelled": share, "cancelled_interval": interval})
    assert n.resolved == (share if resolved else None)


def test_a_fall_is_never_said_beyond_a_positive_loss():
    values = [Numbers(**{**PLAIN, "fall": 2.0, "loss": loss}).attainable for loss in (1.0, 3.0, -1.0, None)]
    assert values == [1.0, 2.0, 2.0, 2.0]
