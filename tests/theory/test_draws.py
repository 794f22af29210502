"""Draws are a pure function of (seed, step, slot), uniform and independent."""

import numpy as np
import pytest

from sharpmin.theory import problems, samples, simulate
from sharpmin.theory._simulation.oracle import uniforms


def test_a_draw_does_not_depend_on_what_is_drawn_with_it():
    seeds, steps = [5, 0, 123456789, 7], [9, 2, 1000]
    together = uniforms(seeds, steps, slots=6)
    for i, step in enumerate(steps):
        for j, seed in enumerate(seeds):
            assert (uniforms([seed], [step], slots=6)[0, 0] == together[i, j]).all()
    assert (uniforms(seeds, steps, slots=2) == together[..., :2]).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_uniform_and_uncorrelated_along_steps_seeds_and_slots(axis):
    u = uniforms(np.arange(60), np.arange(70), slots=50)
    counts, _ = np.histogram(u, bins=64, range=(0, 1))
    expected = u.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(2 * 63)
    a, b = np.moveaxis(u, axis, 0)[:-1].ravel() - 0.5, np.moveaxis(u, axis, 0)[1:].ravel() - 0.5
    assert abs((a * b).mean() * 12) < 5 / np.sqrt(a.size)


def test_samples_replays_a_lane():
    f = problems()["e1"](beta=1.0, mu=0.1, rho=1.0)
    run = simulate(f, method="n-sam", lr=0.3, rho=1.0, steps=40, x0=[0.7, 0.7], seeds=[3, 11], record=range(41))
    for lane, seed in enumerate([3, 11]):
        x = 0.7
        for t in range(40):
            xi, other = samples(f, seed, t)
            g = f.components[xi](x)
            x -= 0.3 * f.components[other](x + 1.0 * np.sign(g))
            assert x == pytest.approx(run.x.values[t + 1, lane], abs=1e-12)


def test_batches_come_in_pairs_with_replacement():
    f = problems()["digits"]()
    xi, other = samples(f, 0, 0)
    assert xi.shape == other.shape == (32,)
    assert (xi != other).any()
    assert min(xi.min(), other.min()) >= 0
    assert max(xi.max(), other.max()) < 1797


def test_probabilities_are_met():
    f = problems()["e3"](p=0.1, rho=1.0)
    share = (f.draw(uniforms(np.arange(400), np.arange(250), 1)) == 0).mean()
    assert abs(share - 0.1) < 5 * np.sqrt(0.09 / 100_000)


@pytest.mark.parametrize(
    ("seed", "step", "error"), [(-1, 0, ValueError), (0, -1, ValueError), (0.5, 0, TypeError), (True, 0, TypeError)]
)
def test_bad_seeds_are_refused(seed, step, error):
    with pytest.raises(error, match="integer >= 0"):
        samples(problems()["e3"](p=0.1, rho=1.0), seed, step)
