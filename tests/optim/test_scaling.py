"""A5: one GradScaler over both passes; whichever pass overflows, nothing moves and the scale halves once."""

import copy

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm


def golden(rho=0.5, base=torch.optim.SGD, **options):
    w = nn.Parameter(torch.tensor([3.0, 1.0]))
    opt = sm.SAM(base([w], lr=0.1, **options), rho=rho)
    return w, opt, lambda: 0.5 * (w[0] ** 2 + 4 * w[1] ** 2)


def train(w, opt, f, scaler, *, unscale_first=False, clip=None, spoil=None):
    """One step; `spoil` puts an inf into the gradients of that pass."""
    opt.zero_grad()
    scaler.scale(f()).backward()
    if spoil == 1:
        w.grad[0] = float("inf")
    if unscale_first:
        scaler.unscale_(opt)
    with opt.perturbed(scaler):
        scaler.scale(f()).backward()
        if spoil == 2:
            w.grad[0] = float("inf")
    if clip is not None:
        if not unscale_first:
            scaler.unscale_(opt)
        nn.utils.clip_grad_norm_([w], clip)
    scaler.step(opt)
    scaler.update()


ASKED = [
    ({}, {}, (2.67, 0.44)),
    ({"rho": sm.rho.Unnormalized(0.5)}, {}, (2.55, -0.2)),
    ({}, {"clip": 1.0}, (2.94923077, 0.91384616)),
]


@pytest.mark.parametrize("unscale_first", [False, True])
@pytest.mark.parametrize("scale", [65536.0, 1.0, 2.0**20])
@pytest.mark.parametrize(("how", "options", "expected"), ASKED)
def test_the_golden_step(how, options, expected, scale, unscale_first):
    w, opt, f = golden(**how)
    train(w, opt, f, GradScaler("cpu", init_scale=scale), unscale_first=unscale_first, **options)
    assert w.tolist() == pytest.approx(expected, abs=1e-5)
    assert opt.last.stepped
    assert opt.last.dual_norm == pytest.approx(5.0)


@pytest.mark.parametrize("unscale_first", [False, True])
@pytest.mark.parametrize("spoil", [1, 2])
@pytest.mark.parametrize(("base", "options"), [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.Adam, {})])
def test_an_overflow_in_either_pass(spoil, base, options, unscale_first):
    w, opt, f = golden(base=base, **options)
    scaler = GradScaler("cpu", init_scale=65536.0)
    train(w, opt, f, scaler)
    was, state = w.detach().clone(), copy.deepcopy(opt.base.state_dict())
    train(w, opt, f, scaler, spoil=spoil, unscale_first=unscale_first)
    assert torch.equal(w, was)
    assert scaler.get_scale() == 32768.0
    assert not opt.last.stepped
    after = opt.base.state_dict()
    for key, values in state["state"].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(after["state"][key][k])) for k, v in values.items())
    assert after["param_groups"] == state["param_groups"]
    twin, other, g = golden(base=base, **options)
    plain = GradScaler("cpu", init_scale=65536.0)
    for _ in range(2):
        train(twin, other, g, plain)
    train(w, opt, f, scaler)  # the next step goes on as if nothing had been
    assert torch.equal(w, twin)


@pytest.mark.parametrize("spoil", [None, 1])
@pytest.mark.parametrize("asked", [False, True])
def test_rho_zero_is_the_base_under_a_scaler(spoil, asked):
    w, opt, f = golden(rho=0.0)
    scaler = GradScaler("cpu", init_scale=65536.0)
    if not asked:
        train(w, opt, f, scaler, spoil=spoil)
    else:
        scaler.scale(f()).backward()
        if spoil:
            w.grad[0] = float("inf")
        assert not opt.needs_second_pass
        scaler.step(opt)
        scaler.update()
    assert w.tolist() == pytest.approx((3.0, 1.0) if spoil else (2.7, 0.6), abs=1e-6)
    assert scaler.get_scale() == (32768.0 if spoil else 65536.0)


def test_zero_gradients_under_a_scaler():
    w, opt, _ = golden()
    scaler = GradScaler("cpu", init_scale=65536.0)

    def flat():
        return (w * 0).sum()

    train(w, opt, flat, scaler)
    assert w.tolist() == [3.0, 1.0]


@pytest.mark.parametrize("scaler", [None, GradScaler("cpu", enabled=False)])
def test_no_scaler_and_a_disabled_one(scaler):
    w, opt, f = golden()
    f().backward()
    with opt.perturbed(scaler):
        f().backward()
    opt.step()
    assert w.tolist() == pytest.approx((2.67, 0.44))


def test_what_is_no_scaler():
    w, opt, f = golden()
    f().backward()
    with pytest.raises(TypeError, match=r"torch\.amp\.GradScaler"), opt.perturbed(65536.0):
        pass
    assert w.tolist() == [3.0, 1.0]


@pytest.mark.parametrize("fused", [False, True])
def test_real_fp16_autocast_from_a_scale_that_is_too_large(fused):
    """Skips until the scale fits, and then follows the hand-written loop with that scale."""
    torch.manual_seed(0)
    net, x, y = nn.Linear(16, 4), torch.randn(32, 16), torch.randn(32, 4)
    opt = sm.SAM(torch.optim.Adam(net.parameters(), lr=1e-2, fused=fused), rho=0.05)
    scaler, skipped = GradScaler("cpu", init_scale=2.0**22), 0
    for _ in range(20):
        opt.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.mse_loss(net(x), y)
        scaler.scale(loss).backward()
        with opt.perturbed(scaler), torch.autocast("cpu", dtype=torch.float16):
            scaler.scale(nn.functional.mse_loss(net(x), y)).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        skipped += not opt.last.stepped
    assert 0 < skipped < 20
    assert scaler.get_scale() == 2.0 ** (22 - skipped)
    assert opt.param_groups[0]["sharpmin_step"] == 20 - skipped
    assert all(torch.isfinite(p).all() for p in net.parameters())
