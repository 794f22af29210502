"""A17: what ran in the block counts, also where nothing was perturbed; the second pass may be of another loss."""

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm

AT_REST = {
    "rho 0": 0.0,
    "between": sm.rho.Every(0.5, k=2),
    "before": sm.rho.Tail(0.5, start=9),
    "after": sm.rho.Until(0.5, stop=1),
}


class Two:
    """w = (1, 1), first loss w1^2, second loss w1^2 + 3 w2^2."""

    def __init__(self, first=(1.0, 0.0)):
        self.w = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.weights = {1: torch.tensor(first, dtype=torch.float64), 2: torch.tensor([1.0, 3.0], dtype=torch.float64)}

    def loss(self, which):
        return (self.weights[which] * self.w**2).sum()


def by_block(opt, f, scaler=None):
    opt.zero_grad()
    scale = (lambda x: x) if scaler is None else scaler.scale
    scale(f.loss(1)).backward()
    with opt.perturbed(scaler):
        scale(f.loss(2)).backward()
    opt.step() if scaler is None else scaler.step(opt)


def by_clean(opt, f):
    opt.zero_grad()
    with opt.clean():
        f.loss(1).backward()
    with opt.perturbed():
        f.loss(2).backward()
    opt.step()


def by_two_steps(opt, f):
    opt.zero_grad()
    f.loss(1).backward()
    opt.first_step(zero_grad=True)
    f.loss(2).backward()
    opt.second_step(zero_grad=True)


def by_scaler(opt, f):
    by_block(opt, f, GradScaler("cpu", init_scale=1024.0))


def by_unscaled_scaler(opt, f):
    """The user unscales before the block, to clip, say."""
    scaler = GradScaler("cpu", init_scale=1024.0)
    opt.zero_grad()
    scaler.scale(f.loss(1)).backward()
    scaler.unscale_(opt)
    with opt.perturbed(scaler):
        scaler.scale(f.loss(2)).backward()
    scaler.step(opt)


DOORS = [by_block, by_clean, by_two_steps, by_scaler, by_unscaled_scaler]


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_in_scope_microbatch_nobody_unscales_before_the_block(rho, bits):
    f = Two()
    opt, was = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=rho, scope="microbatch"), bits(f.w)
    scaler = GradScaler("cpu", init_scale=1024.0)
    with opt.clean():
        scaler.scale(f.loss(1)).backward()
    scaler.unscale_(opt)
    with pytest.raises(sm.PhaseError, match=r"once, after the last block"), opt.perturbed(scaler):
        raise AssertionError
    assert bits(f.w) == was


WITH_SCOPES = [(door, scope) for door in DOORS for scope in ("global", "microbatch")][:-1]


@pytest.mark.parametrize(("door", "scope"), WITH_SCOPES)
@pytest.mark.parametrize("rho", AT_REST)
def test_the_second_loss_is_stepped_with(path, door, rho, scope):
    f = Two()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=AT_REST[rho], scope=scope)
    opt.param_groups[0]["sharpmin_step"] = 1
    assert opt.needs_second_pass is False
    door(opt, f)
    assert f.w.tolist() == pytest.approx([0.8, 0.4], abs=1e-12)  # w2 = 1 - .1 * 6
    assert opt.last.stepped
    assert opt.last.passes == 2


@pytest.mark.parametrize("door", DOORS)
def test_where_the_first_gradient_is_zero(path, door):
    f = Two(first=(0.0, 0.0))
    door(sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5), f)
    assert f.w.tolist() == pytest.approx([0.8, 0.4], abs=1e-12)


@pytest.mark.parametrize("door", DOORS)
def test_where_the_weights_move_it_always_has(path, door):
    f = Two()
    door(sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5), f)  # e = (.5, 0)
    assert f.w.tolist() == pytest.approx([0.7, 0.4], abs=1e-12)


@pytest.mark.parametrize("rho", [0.0, sm.rho.Tail(0.5, start=99)], ids=str)
def test_with_clean_rho_zero_and_dropout_are_the_base_bit_for_bit(bits, rho):
    def run(sam):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        base = torch.optim.AdamW(net.parameters(), lr=0.1)
        opt = sm.SAM(base, rho=rho, model=net) if sam else base
        for _ in range(5):
            x = torch.randn(6, 3)
            opt.zero_grad()
            if sam:
                with opt.clean():
                    net(x).square().mean().backward()
                with opt.perturbed():
                    net(x).square().mean().backward()
            else:
                net(x).square().mean().backward()
            opt.step()
        return bits([net.state_dict(), base.state_dict()["state"]]), bits(torch.get_rng_state())

    assert run(sam=True) == run(sam=False)


def test_a_micro_batch_at_rest_adds_up_and_is_not_doubled():
    """Scope "microbatch" with rho 0 and a block around each: the sum of the second losses."""
    f = Two()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.0, scope="microbatch")
    for run_block in (True, False, True):
        with opt.clean():
            f.loss(1).backward()
        if run_block:
            with opt.perturbed():
                f.loss(2).backward()
    assert opt._passes.state.trip is None
    opt.step()
    assert f.w.tolist() == pytest.approx([1 - 0.1 * 3 * 2, 1 - 0.1 * 2 * 6], abs=1e-12)
