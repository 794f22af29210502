"""Both passes see the same random numbers, and a step leaves the generator where one clean pass leaves it."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import sharpmin as sm

X = torch.ones(5, 64)


class Net(nn.Module):
    """Remembers the masks that its forward passes used."""

    def __init__(self, checkpointed=False):
        super().__init__()
        self.inner, self.drop, self.masks, self.checkpointed = nn.Linear(64, 64), nn.Dropout(0.5), [], checkpointed

    def forward(self, x):
        h = self.inner(x)
        mask = checkpoint(self.drop, torch.ones_like(h) * h.sum() / h.sum(), use_reentrant=False) if self.checkpointed else None
        mask = self.drop(torch.ones_like(h)) if mask is None else mask
        self.masks.append(mask.detach().clone().round())
        return (h * mask) ** 2


def sam(net, rho=0.5):
    return sm.SAM(torch.optim.SGD(net.parameters(), lr=0.01), rho=rho)


def run(net, opt, door):
    def closure():
        opt.zero_grad()
        loss = net(X).mean()
        loss.backward()
        return loss

    if door == "closure":
        opt.step(closure)
        return
    if door == "clean":
        with opt.clean():
            closure()
    else:
        closure()
    with opt.perturbed():
        closure()
    opt.step()


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("door", ["closure", "clean"])
def test_the_same_mask_in_both_passes_and_a_new_one_in_the_next_step(door, checkpointed):
    net = Net(checkpointed)
    opt = sam(net)
    run(net, opt, door)
    run(net, opt, door)
    a, b, c, d = net.masks
    assert torch.equal(a, b)
    assert torch.equal(c, d)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("door", ["closure", "clean"])
def test_the_generator_is_left_as_by_one_pass(door):
    net = Net()
    state = torch.get_rng_state()
    net(X).mean().backward()
    expected = torch.get_rng_state()
    torch.set_rng_state(state)
    run(net, sam(net), door)
    assert torch.equal(torch.get_rng_state(), expected)


def test_without_clean_the_passes_differ_and_no_mask_comes_twice():
    net = Net()
    opt = sam(net)
    run(net, opt, "block")
    run(net, opt, "block")
    assert all(not torch.equal(net.masks[i], net.masks[j]) for i in range(4) for j in range(i))


@pytest.mark.parametrize("clean", [False, True])
def test_a_block_at_rest_draws_anew_or_with_clean_again(clean):
    """What ran in the block counts: with `clean()` it is the base bit for bit, without it another mask."""
    net = Net()
    opt = sam(net, rho=0.0)
    with opt.clean() if clean else nullcontext():
        net(X).mean().backward()
    before = torch.get_rng_state()
    with opt.perturbed():
        net(X).mean().backward()
    assert torch.equal(torch.get_rng_state(), before) is clean
    assert torch.equal(net.masks[0], net.masks[1]) is clean


@pytest.mark.parametrize("skipped", ["step", "block"])
def test_a_step_that_was_skipped_does_not_leave_its_start_to_the_next(skipped):
    net = Net()
    opt = sam(net)
    with opt.clean():
        net(X).mean().backward()
    if skipped == "step":
        with opt.perturbed():
            net(X).mean().backward()
    else:
        opt.param_groups[0]["rho"] = 0.0
        opt.step()
        opt.param_groups[0]["rho"] = 0.5
    opt.zero_grad()
    net.masks.clear()
    run(net, opt, "clean")
    assert torch.equal(*net.masks)


def test_an_exception_in_the_block_restores_the_generator():
    net = Net()
    opt = sam(net)
    with opt.clean():
        net(X).mean().backward()
    after = torch.get_rng_state()

    def boom():
        torch.rand(3)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"), opt.perturbed():
        boom()
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("mode", ["closure", "asked", "unasked"])
def test_a2_rho_zero_is_the_base_optimizer_bit_for_bit(mode):
    """BatchNorm and Dropout, AdamW, 20 steps: parameters, buffers, optimizer state and random state."""

    def build():
        torch.manual_seed(7)
        net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        return net, torch.optim.AdamW(net.parameters(), lr=1e-2)

    data = [(torch.randn(8, 6), torch.randint(3, (8,))) for _ in range(20)]
    results, forwards = [], []
    for wrap in (False, True):
        net, base = build()
        opt = sm.SAM(base, rho=0.0, model=net) if wrap else base
        calls = []
        net.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        for x, y in data:

            def closure(x=x, y=y, net=net, opt=opt):
                opt.zero_grad()
                loss = nn.functional.cross_entropy(net(x), y)
                loss.backward()
                return loss

            if not wrap or mode == "closure":
                opt.step(closure)
                continue
            with opt.clean():
                closure()
            if opt.needs_second_pass or mode == "unasked":
                with opt.perturbed():
                    closure()
            opt.step()
        state = [v for s in base.state.values() for v in s.values()]
        results.append([*net.state_dict().values(), *state, torch.get_rng_state()])
        forwards.append(len(calls))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert forwards == [20, 40 if mode == "unasked" else 20]
