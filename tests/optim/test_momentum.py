"""`Momentum`: one pass a step, at w + e, with e from what the base optimizer remembers."""

import copy
import math
from functools import cache

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm

BASES = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.01),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01, amsgrad=True),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.01, momentum=0.5),
}
over_bases = pytest.mark.parametrize("base", BASES)


class Deep:
    """BatchNorm and dropout, with a count of the forward passes."""

    def __init__(self):
        torch.manual_seed(5)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2))
        self.x, self.y, self.forwards = torch.randn(16, 4), torch.randn(16, 2), 0

    def __call__(self):
        self.forwards += 1
        loss = nn.functional.mse_loss(self.net(self.x), self.y)
        loss.backward()
        return loss

    def sam(self, base="sgd", rho=0.1, **options):
        return sm.SAM(BASES[base](self.net.parameters()), rho=rho, ascent=sm.Momentum(), **options)


def by_block(opt, f):
    opt.zero_grad()
    with opt.perturbed():
        loss = f()
    opt.step()
    return loss


def by_clean_and_block(opt, f):
    """The loop of other ascents, with nothing in the first block."""
    with opt.clean():
        pass
    return by_block(opt, f)


def by_closure(opt, f):
    def closure():
        opt.zero_grad()
        return f()

    with torch.no_grad():
        return opt.step(closure)


def bare(opt, f):
    opt.zero_grad()
    loss = f()
    opt.step()
    return loss


every_door = pytest.mark.parametrize("take", [by_block, by_closure, by_clean_and_block])


def everything(f, opt, bits):
    base = getattr(opt, "base", opt)
    return bits([f.net.state_dict(), base.state_dict()["state"], torch.get_rng_state()])


@cache
def after(base, steps, bits):
    """Everything after these steps of the base alone."""
    f = Deep()
    plain = BASES[base](f.net.parameters())
    for _ in range(steps):
        bare(plain, f)
    assert f.forwards == steps
    return everything(f, plain, bits)


@every_door
@over_bases
@pytest.mark.parametrize("model", [True, False])
@pytest.mark.parametrize(("rho", "steps"), [(0.0, 10), (0.1, 1), (sm.rho.Until(0.1, stop=1), 10)], ids=str)
def test_the_base_where_nothing_climbs(*, path, take, base, model, rho, steps, bits):
    """rho 0, and the first step, which has no momentum yet: bit for bit, buffers and random state included."""
    g = Deep()
    opt = g.sam(base, rho, model=g.net if model else None)
    for _ in range(steps):
        assert opt.needs_second_pass is True
        take(opt, g)
    assert everything(g, opt, bits) == after(base, steps, bits)
    assert g.forwards == steps


@every_door
@pytest.mark.parametrize("model", [True, False])
def test_one_forward_a_step_moves_buffers_and_random_state_once(path, take, model):
    f = Deep()
    opt = f.sam(model=f.net if model else None)
    states = []
    for step in range(1, 5):
        torch.manual_seed(step)
        take(opt, f)
        states.append(torch.get_rng_state())
        torch.manual_seed(step)
        nn.functional.dropout(torch.ones(16, 6), 0.5)
        assert torch.equal(states[-1], torch.get_rng_state())
        assert (f.forwards, int(f.net[1].num_batches_tracked), opt.last.passes) == (step, step, 1)
    assert opt.last.radius == pytest.approx(0.1, rel=1e-5)


def test_the_golden_steps(path, quadratic):
    """From (3, 1): the base's (2.7, 0.6) with m = (3, 4), then the gradient at (2.4, 0.2) = (2.7, 0.6) - 0.5 m / 5."""
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1, momentum=0.5), rho=0.5, ascent=sm.Momentum())
    losses = [by_closure(opt, f).item() for _ in range(2)]
    assert [v.tolist() for v in f.visited] == [[3.0, 1.0], pytest.approx([2.4, 0.2], abs=1e-12)]
    assert losses == pytest.approx([6.5, 0.5 * (2.4**2 + 4 * 0.2**2)], abs=1e-12)  # of the one call, at w + e
    assert f.w.tolist() == pytest.approx([2.7 - 0.1 * (1.5 + 2.4), 0.6 - 0.1 * (2.0 + 0.8)], abs=1e-12)
    assert (opt.last.passes, opt.last.clean_loss) == (1, None)
    assert float(opt.last.perturbed_loss) == pytest.approx(losses[1], abs=1e-12)


@over_bases
@pytest.mark.parametrize("spoil", [False, True])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_loop_of_a_scaler(*, path, base, spoil, clip, bits):
    f, g, scaler = Deep(), Deep(), GradScaler("cpu", init_scale=65536.0)
    opt, plain = f.sam(base), g.sam(base)
    for step in range(4):
        torch.manual_seed(step)
        opt.zero_grad()
        with opt.perturbed(scaler):
            scaler.scale(nn.functional.mse_loss(f.net(f.x), f.y)).backward()
        if spoil and step == 3:
            f.net[0].weight.grad[0, 0] = math.inf
        if clip:
            scaler.unscale_(opt)
            nn.utils.clip_grad_norm_(f.net.parameters(), clip)
        scaler.step(opt)
        scaler.update()
    for step in range(3 if spoil else 4):
        torch.manual_seed(step)
        plain.zero_grad()
        with plain.perturbed():
            g()
        if clip:
            nn.utils.clip_grad_norm_(g.net.parameters(), clip)
        plain.step()
    assert bits(list(f.net.parameters())) == bits(list(g.net.parameters()))
    assert bits(opt.state_dict()) == bits(plain.state_dict())
    assert (scaler.get_scale(), opt.last.stepped) == ((32768.0, False) if spoil else (65536.0, True))


@every_door
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite(take, value, bits):
    f = Deep()
    opt = f.sam()
    take(opt, f)
    was = bits([list(f.net.parameters()), opt.state_dict()])

    def spoiled():
        loss = f()
        f.net[0].weight.grad[0, 0] = value
        return loss

    take(opt, spoiled)
    assert bits([list(f.net.parameters()), opt.state_dict()]) == was
    assert opt.last.stepped is False
    take(opt, f)
    assert opt.last.stepped


@every_door
def test_an_exception_leaves_the_weights(take, bits):
    f = Deep()
    opt = f.sam(model=f.net)
    take(opt, f)
    was = bits([list(f.net.parameters()), opt.state_dict()])

    def broken():
        f()
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        take(opt, broken)
    assert bits([list(f.net.parameters()), opt.state_dict()]) == was
    take(opt, f)
    assert opt.last.stepped


def test_micro_batches_share_one_block(bits):
    """Gradients add up inside the block; e is from the past, so it is that of the big batch."""
    f, g = Deep(), Deep()
    f.net.eval()
    g.net.eval()
    opt, other = f.sam(), g.sam()
    for _ in range(3):
        by_block(opt, f)
        other.zero_grad()
        with other.perturbed():
            for half in (slice(8), slice(8, 16)):
                (nn.functional.mse_loss(g.net(g.x[half]), g.y[half]) / 2).backward()
        other.step()
    for p, q in zip(f.net.parameters(), g.net.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=1e-6)


@over_bases
def test_copies_and_checkpoints_go_on(base, bits):
    f = Deep()
    opt = f.sam(base)
    for _ in range(3):
        by_closure(opt, f)
    g, twin = copy.deepcopy((f, opt))
    h, loaded = Deep(), None
    h.net.load_state_dict(f.net.state_dict())
    loaded = h.sam(base)
    loaded.load_state_dict(copy.deepcopy(opt.state_dict()))
    ends = []
    for run, o in ((f, opt), (g, twin), (h, loaded)):
        torch.manual_seed(9)
        for _ in range(3):
            by_closure(o, run)
        ends.append(bits([run.net.state_dict(), o.state_dict()]))
    assert ends[0] == ends[1] == ends[2]


def test_a_step_without_the_block_is_refused():
    """The first one has nowhere to climb: it is the base's."""
    f = Deep()
    opt = f.sam()
    bare(opt, f)
    with pytest.raises(sm.PhaseError, match="With this ascent it is the only one"):
        bare(opt, f)
    by_block(opt, f)
    assert opt.last.stepped


REFUSED = [
    (lambda ps: torch.optim.SGD(ps, lr=0.1), {}, "base keeps none"),
    (lambda ps: torch.optim.Adagrad(ps, lr=0.1), {}, "base keeps none"),
    (lambda ps: torch.optim.SGD([{"params": ps[:1], "momentum": 0.9}, {"params": ps[1:]}], lr=0.1), {}, "base keeps none"),
    (BASES["sgd"], {"descent": sm.Mix(0.5)}, r"Mix\(weight=0\.5\) needs the gradient at w"),
    (BASES["sgd"], {"descent": sm.ClippedDifference(0.5)}, "needs the gradient at w"),
    (BASES["sgd"], {"scope": "microbatch"}, "microbatch"),
]


@pytest.mark.parametrize(("base", "options", "message"), REFUSED)
def test_what_is_refused(base, options, message):
    ps = list(nn.Linear(2, 2).parameters())
    with pytest.raises(ValueError, match=message):
        sm.SAM(base(ps), rho=0.1, ascent=sm.Momentum(), **options)


def test_a_group_without_momentum_is_refused_and_not_added():
    f = Deep()
    opt = f.sam()
    with pytest.raises(ValueError, match="base keeps none"):
        opt.add_param_group({"params": [nn.Parameter(torch.ones(1))], "momentum": 0.0})
    assert len(opt.param_groups) == 1
