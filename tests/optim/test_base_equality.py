"""rho = 0 is the base optimizer, bit for bit, in one pass."""

import pytest
import torch

import sharpmin as sm

STEPS = 20


def without_block(opt, f):
    opt.zero_grad()
    f()
    if opt.needs_second_pass:
        with opt.perturbed():
            f()
    opt.step()


def run(training, take):
    f = training()
    base = torch.optim.AdamW(f.net.parameters(), lr=0.01)
    for _ in range(STEPS):
        take(base, f)
    return f, base


def bare(base, f):
    base.zero_grad()
    f()
    base.step()


@pytest.mark.parametrize(
    "rho",
    [0, 0.0, sm.rho.Constant(0.0), sm.rho.Cosine(0.0, steps=9), sm.rho.Unnormalized(0.0), sm.rho.Capped(0.5, c=0.0)],
    ids=str,
)
def test_rho_zero_is_the_base(training, door, path, bits, rho):
    expected, bare_base = run(training, bare)
    rng = torch.get_rng_state()
    f, base = run(training, lambda base, f: door(sm.SAM(base, rho=rho), f))
    assert bits(f.weights) == bits(expected.weights)
    assert bits(base.state_dict()["state"]) == bits(bare_base.state_dict()["state"])
    assert torch.equal(torch.get_rng_state(), rng)
    assert f.forwards == (STEPS if door.__name__ == "closure" else 2 * STEPS)


def test_needs_second_pass_saves_it(training, bits):
    expected, _ = run(training, bare)
    f, _ = run(training, lambda base, f: without_block(sm.SAM(base, rho=0.0), f))
    assert f.forwards == STEPS
    assert bits(f.weights) == bits(expected.weights)


@pytest.mark.parametrize("rho", [sm.rho.Cosine(0.05, steps=10), sm.rho.Every(0.05, k=2)], ids=str)
def test_a_schedule_pays_only_for_the_steps_that_climb(training, door, bits, rho):
    """All doors, and `needs_second_pass`, agree; 10 of 20 steps climb."""
    f, g = training(), training()
    opt = sm.SAM(torch.optim.AdamW(f.net.parameters(), lr=0.01), rho=rho)
    other = sm.SAM(torch.optim.AdamW(g.net.parameters(), lr=0.01), rho=rho)
    passes = []
    for _ in range(STEPS):
        door(opt, f)
        without_block(other, g)
        passes.append(other.last.passes)
    assert bits(f.weights) == bits(g.weights)
    assert sum(passes) == g.forwards == STEPS + 10
    assert f.forwards == (STEPS + 10 if door.__name__ == "closure" else 2 * STEPS)


def test_what_a_block_without_perturbation_leaves_counts(training):
    """A17: neither the first gradients, nor their sum with those of the block; and without a second pass the first ones."""
    f = training()
    opt = sm.SAM(torch.optim.SGD(f.net.parameters(), lr=0.1), rho=0.0)
    f()
    first = [p.grad for p in f.net.parameters()]
    values = [g.clone() for g in first]
    with opt.perturbed():
        assert opt.needs_second_pass is False
    assert all(p.grad is g for p, g in zip(f.net.parameters(), first, strict=True))
    with opt.perturbed():
        f()
        f()
    assert all(torch.equal(p.grad, 2 * v) for p, v in zip(f.net.parameters(), values, strict=True))


def test_needs_second_pass_follows_groups_and_phases(quadratic):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    assert opt.needs_second_pass is True
    opt.param_groups[0]["rho"] = 0.0
    assert opt.needs_second_pass is False
    opt.param_groups[0]["rho"] = sm.rho.Every(0.5, k=2)
    f()
    with opt.perturbed():
        assert opt.needs_second_pass is True
        f()
    opt.step()
    assert opt.needs_second_pass is False
