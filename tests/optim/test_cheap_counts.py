"""The cheap SAMs really leave passes out: counted by hooks on a model, through every door, against a loop by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm
from sharpmin.optim import norm_groups

from .test_lookahead import Flat, Nested
from .variant_rules import RATES, STEPS
from .variants_by_hand import BASES, CASES, EVERY, Loss, trace

PROMISED = {
    "sam": 2 * STEPS,
    "every-k-sam": STEPS + math.ceil(STEPS / 3),
    "looksam": STEPS + math.ceil(STEPS / 3),
    "late-sam": STEPS + 5,
    "s2-sam": STEPS,
    "momentum-sam": STEPS,
    "random-sam": STEPS,
    "ae-sam": None,  # the gradients decide
    "ae-looksam": None,
}
"""Passes of the run, as docs/parts.md has them by step."""


class Counted(nn.Module):
    """The loss of `variants_by_hand.py` as a model that counts its passes, forward and backward, and sees where they are."""

    def __init__(self):
        super().__init__()
        self.loss = Loss()
        self.x, self.y = self.loss.x, self.loss.y
        self.begin()
        self.register_forward_hook(self._forward)

    def begin(self):
        """A step begins."""
        self.start, self.forwards, self.backwards = self.loss.weights.detach().clone(), [], 0

    def forward(self):
        return self.loss.value()

    def _forward(self, module, args, out):
        self.forwards.append((self.loss.weights.detach() - self.start).norm().item())
        out.register_hook(self._backward)

    def _backward(self, grad):
        self.backwards += 1


def a_pass(model, scale=lambda loss: loss):
    loss = model()
    scale(loss).backward()
    return loss


def by_closure(opt, model):
    def closure():
        opt.zero_grad()
        return a_pass(model)

    opt.step(closure)


def by_block(opt, model):
    opt.zero_grad()
    if opt.ascent.needs_clean:
        a_pass(model)
    with opt.perturbed():
        if opt.needs_second_pass:
            a_pass(model)
    opt.step()


def by_two_steps(opt, model):
    opt.zero_grad()
    if opt.ascent.needs_clean:
        a_pass(model)
    opt.first_step(zero_grad=True)
    if opt.needs_second_pass:
        a_pass(model)
    opt.second_step(zero_grad=True)


DOORS = [by_closure, by_block, by_two_steps]


def built(name):
    model = Counted()
    return model, CASES[name].build(BASES["momentum"]([model.x, model.y]))


def steps(model, opt, door, which):
    """(weights, where each forward pass was made, backward passes) of each step."""
    for t in which:
        for group in opt.param_groups:
            group["lr"] = RATES[t]
        model.begin()
        door(opt, model)
        yield model.loss.weights.detach().numpy().copy(), model.forwards, model.backwards


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", PROMISED)
def test_passes_and_climbs_are_those_of_a_loop_by_hand(name, door):
    path, passes, lengths = trace(CASES[name], "momentum", EVERY)
    model, opt = built(name)
    spent = climbed = 0
    for t, (weights, forwards, backwards) in enumerate(steps(model, opt, door, range(STEPS))):
        assert np.abs(weights - path[t]).max() < 1e-10
        assert len(forwards) == backwards == passes[t] == opt.last.passes
        assert forwards[-1] == pytest.approx(lengths[t], abs=1e-12)  # the last pass is at w + e, and e is 0 where it must be
        assert all(length == 0 for length in forwards[:-1])
        spent, climbed = spent + passes[t], climbed + (lengths[t] > 0)
        assert (opt.last.steps, opt.last.climbed, opt.last.total_passes) == (t + 1, climbed, spent)
    if (promised := PROMISED[name]) is None:
        assert STEPS + 3 < spent < 2 * STEPS - 3  # it says yes and no
    else:
        assert spent == promised
    assert climbed > 0


@pytest.mark.parametrize("name", PROMISED)
def test_a_resumed_run_is_the_same_bit_for_bit_and_goes_on_counting(name):
    whole_model, whole = built(name)
    expected = list(steps(whole_model, whole, by_closure, range(STEPS)))
    model, opt = built(name)
    found = list(steps(model, opt, by_closure, range(7)))
    again_model, again = built(name)
    for mine, other in zip(again_model.parameters(), model.parameters(), strict=True):
        mine.data.copy_(other.data)
    again.load_state_dict(opt.state_dict())
    found += list(steps(again_model, again, by_block, range(7, STEPS)))
    for (weights, forwards, backwards), (own, own_forwards, own_backwards) in zip(found, expected, strict=True):
        assert (weights == own).all()
        assert (forwards, backwards) == (own_forwards, own_backwards)
    counts = [(opt.last.steps, opt.last.climbed, opt.last.total_passes) for opt in (again, whole)]
    assert counts[0] == counts[1]


def test_every_variant_that_promises_fewer_than_two_passes_is_counted():
    cheap = set()
    for name, needs in {
        name: {"capped_sam": {"c": 0.1}, "ae_sam": {"total": 9}}.get(name, {}) for name in sm.variants()
    }.items():
        opt = sm.create(name, torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9), **needs)
        schedule = opt.rho if isinstance(opt.rho, sm.rho.RhoSchedule) else sm.rho.Constant(opt.rho)
        rests = bool(schedule.remembers) or not all(schedule.active(t, 0.1) for t in range(20))
        cheap |= {name} if rests or not opt.ascent.needs_clean else set()
    assert {name.replace("_", "-") for name in cheap} == set(PROMISED) & {name.replace("_", "-") for name in sm.variants()} - {
        "sam"
    }


# the gate, where gradients are not the plain ones of one batch


def gated(**options):
    model = Counted()
    opt = sm.ae_sam(BASES["momentum"]([model.x, model.y]), 0.3, total=STEPS, delta=0.7, first=0.2, last=-1.5, **options)
    return model, opt


def numbers(opt):
    return opt.last.steps, opt.last.climbed, opt.last.total_passes


@pytest.mark.parametrize("unscale_first", [False, True])
def test_under_a_scaler_it_decides_by_the_unscaled_gradient(unscale_first):
    """Scales are powers of 2, so not a bit differs."""
    model, opt = gated()
    scaler = GradScaler("cpu", init_scale=2.0**12, growth_interval=5)

    def by_scaler(opt, model):
        opt.zero_grad()
        a_pass(model, scaler.scale)
        if unscale_first:
            scaler.unscale_(opt)
        with opt.perturbed(scaler):
            if opt.needs_second_pass:
                a_pass(model, scaler.scale)
        scaler.step(opt)
        scaler.update()

    plain_model, plain = gated()
    expected = list(steps(plain_model, plain, by_block, range(STEPS)))
    for (weights, forwards, _), (own, own_forwards, _) in zip(
        steps(model, opt, by_scaler, range(STEPS)), expected, strict=True
    ):
        assert (weights == own).all()
        assert forwards == own_forwards
    assert numbers(opt) == numbers(plain)
    assert scaler.get_scale() == 2.0**16


def test_micro_batches_are_decided_upon_together():
    """Two halves of the loss, in scope "global": one decision, by their sum."""
    model, opt = gated()

    def by_halves(opt, model):
        opt.zero_grad()
        for _ in range(2):
            a_pass(model, lambda loss: loss / 2)
        with opt.perturbed():
            if opt.needs_second_pass:
                for _ in range(2):
                    a_pass(model, lambda loss: loss / 2)
        opt.step()

    plain_model, plain = gated()
    expected = list(steps(plain_model, plain, by_block, range(STEPS)))
    for (weights, forwards, _), (own, own_forwards, _) in zip(
        steps(model, opt, by_halves, range(STEPS)), expected, strict=True
    ):
        assert np.abs(weights - own).max() < 1e-12
        assert len(forwards) == 2 * len(own_forwards)
    assert numbers(opt) == numbers(plain)


def closed(opt):
    """A gate that will not open: the usual gradient was far larger."""
    for group in opt.param_groups:
        group["sharpmin_rho_mean"] = 1e12


def test_a_block_that_runs_against_the_gate_is_told_once_and_steps_as_the_base():
    model, opt = gated()
    closed(opt)
    twin = Counted()
    base = BASES["momentum"]([twin.x, twin.y])
    opt.zero_grad()
    a_pass(model)
    opt.perturb()
    a_pass(model)
    with pytest.warns(UserWarning, match=r"(?s)second pass ran at w all the same; ask inside.*if opt\.needs_second_pass"):
        opt.restore()
    opt.step()
    a_pass(twin)
    base.step()
    assert torch.equal(model.loss.weights, twin.loss.weights)
    assert numbers(opt) == (1, 0, 2)


def test_before_the_block_it_may_need_a_second_pass_and_inside_it_knows():
    model, opt = gated()
    closed(opt)
    opt.zero_grad()
    a_pass(model)
    assert opt.needs_second_pass
    with opt.perturbed():
        assert not opt.needs_second_pass
    opt.step()
    assert numbers(opt) == (1, 0, 1)


@pytest.mark.filterwarnings("ignore:SAM. a (first|second) gradient")
@pytest.mark.parametrize("spoil", [1, 2])
def test_a_step_that_is_skipped_is_none_for_the_averages(spoil):
    model, opt = gated()
    list(steps(model, opt, by_block, range(3)))
    opt.param_groups[0] |= {"sharpmin_rho_mean": 0.0, "sharpmin_rho_variance": 0.0}  # it opens
    before = dict(opt.param_groups[0])
    opt.zero_grad()
    a_pass(model)
    if spoil == 1:
        model.x.grad[0] = math.nan
    with opt.perturbed():
        a_pass(model)
        model.x.grad[0] = math.inf
    opt.step()
    assert opt.last.stepped is False
    assert dict(opt.param_groups[0]) == before


REFUSED = {
    "one pass": (
        lambda b: sm.SAM(b, sm.rho.Gate(0.1, 9), ascent=sm.Momentum()),
        "decides by the gradient at w, which Momentum",
    ),
    "micro-batches": (lambda b: sm.ae_sam(b, total=9, scope="microbatch"), 'use scope="global"'),
    "set later": (lambda b: setattr(sm.SAM(b, ascent=sm.Momentum()), "rho", sm.rho.Gate(0.1, 9)), "which Momentum"),
    "scope set later": (lambda b: setattr(sm.ae_sam(b, total=9), "scope", "microbatch"), 'use scope="global"'),
    "in a group": (
        lambda b: sm.SAM(b, ascent=sm.PreviousGradient()).add_param_group(
            {"params": [nn.Parameter(torch.ones(1))], "rho": sm.rho.Gate(0.1, 9)}
        ),
        "which PreviousGradient",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_a_gate_cannot_decide_it_is_refused(name):
    build, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        build(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9))


def test_a_gate_that_is_put_into_a_group_is_refused_at_the_step():
    model = Counted()
    opt = sm.SAM(BASES["momentum"]([model.x, model.y]), ascent=sm.Momentum())
    opt.param_groups[0]["rho"] = sm.rho.Gate(0.1, 9)
    with pytest.raises(ValueError, match="which Momentum"):
        by_block(opt, model)


@pytest.mark.parametrize("bad", [float("nan"), -1.0, "3", None])
def test_a_memory_that_is_none_is_refused(bad):
    _, opt = gated()
    saved = opt.state_dict()
    saved["param_groups"][0]["sharpmin_rho_mean"] = bad
    with pytest.raises((TypeError, ValueError), match="sharpmin_rho_mean"):
        opt.load_state_dict(saved)


@pytest.mark.parametrize("kind", [Flat, Nested])
def test_bases_with_a_state_dict_of_another_shape_keep_the_memory(kind):
    def built():
        model = Counted()
        return model, sm.ae_sam(kind(BASES["momentum"]([model.x, model.y])), 0.3, total=STEPS, delta=0.7, last=-1.5)

    model, opt = built()
    list(steps(model, opt, by_closure, range(7)))
    again_model, again = built()
    for mine, other in zip(again_model.parameters(), model.parameters(), strict=True):
        mine.data.copy_(other.data)
    again.load_state_dict(copy.deepcopy(opt.state_dict()))  # these loads take tensors over as they are
    going, gone = (list(steps(*run, by_closure, range(7, STEPS))) for run in ((model, opt), (again_model, again)))
    assert all((own == other).all() for (own, *_), (other, *_) in zip(going, gone, strict=True))
    assert numbers(opt) == numbers(again)
    assert 0 < opt.last.climbed < STEPS


def test_a_gate_goes_on_from_the_checkpoint_of_a_run_without_one():
    """Its averages begin then; the keys are there, as torch.distributed.checkpoint looks for them."""
    model, opt = built("sam")
    by_block(opt, model)
    _, again = gated()
    again.load_state_dict(opt.state_dict())
    assert (again.param_groups[0]["sharpmin_rho_mean"], again.param_groups[0]["sharpmin_rho_variance"]) == (0.0, 0.0)


# the last gradient


def test_the_last_gradient_is_a_copy():
    """Clearing in place, before the block, leaves what was remembered alone."""
    path, _, _ = trace(CASES["s2-sam"], "momentum", EVERY)
    model, opt = built("s2-sam")

    def in_place(opt, model):
        opt.zero_grad(set_to_none=False)
        by_block(opt, model)

    for t, (weights, *_) in enumerate(steps(model, opt, in_place, range(STEPS))):
        assert np.abs(weights - path[t]).max() < 1e-10


def test_maximize_climbs_where_the_loss_grows():
    """The loss of a group that maximizes is minus what it is given."""
    ends = []
    for sign in (1, -1):
        w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
        opt = sm.s2_sam(torch.optim.SGD([w], lr=0.1, maximize=sign < 0), 0.5)
        for _ in range(5):
            opt.zero_grad()
            with opt.perturbed():
                (sign * 0.5 * (w[0] ** 2 + 4 * w[1] ** 2)).backward()
            opt.step()
        ends.append(w.tolist())
    assert ends[0] == ends[1]


# the counts of every run


def test_watched_rows_tell_the_counts():
    model, opt = gated()
    probe = sm.watch(opt)
    rows, expected = [], []
    for _ in steps(model, opt, by_closure, range(STEPS)):
        if opt.last.passes == 2:
            expected.append((opt.last.climbed, opt.last.total_passes))
    rows = [(row["climbed"], row["total_passes"]) for row in probe.log.steps]
    assert rows == expected
    _, named = sm.diagnostics.scalars(probe.log.steps[-1])
    assert (named["sharpmin/step/climbed"], named["sharpmin/step/total passes"]) == expected[-1]
    probe.close()


def test_the_checkpoint_of_a_run_before_passes_were_counted():
    model, opt = built("sam")
    by_block(opt, model)
    saved = opt.state_dict()
    for group in saved["param_groups"]:
        del group["sharpmin_passes"]
    _, again = built("sam")
    again.load_state_dict(saved)
    assert (again.last.steps, again.last.total_passes) == (1, 0)


# what saves memory and no pass


def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 1))


def test_the_normalization_layers_alone_climb_and_no_pass_is_saved():
    model, x = layers(), torch.randn(8, 3)
    opt = sm.SAM(torch.optim.SGD(norm_groups(model), lr=0.1), rho=0.5, model=model)
    start, seen = [p.detach().clone() for p in model.parameters()], []

    def closure():
        opt.zero_grad()
        seen.append([bool((p != was).any()) for p, was in zip(model.parameters(), start, strict=True)])
        loss = model(x).square().mean()
        loss.backward()
        return loss

    opt.step(closure)
    assert seen == [[False] * 10, [False, False, True, True, False, False, True, True, False, False]]
    assert (opt.last.passes, opt.last.radius) == (2, pytest.approx(0.5))
    assert [p is q for p, q in zip(opt._passes.groups.parameters(), opt.base.param_groups[0]["params"], strict=False)] == [
        True
    ] * 4


class RMSNormOfOnesOwn(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain, self.inner = nn.Parameter(torch.ones(3)), nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("model", "sizes"),
    [(layers(), [4, 6]), (nn.LayerNorm(3), [2]), (nn.Sequential(RMSNormOfOnesOwn()), [1, 2]), (nn.GroupNorm(1, 2), [2])],
    ids=["two kinds", "nothing else", "of one's own", "group"],
)
def test_the_groups_hold_every_parameter_once(model, sizes):
    groups = norm_groups(model)
    assert [len(group["params"]) for group in groups] == sizes
    assert {id(p) for group in groups for p in group["params"]} == set(map(id, model.parameters()))
    assert [group.get("rho") for group in groups] == [None, 0.0][: len(sizes)]


@pytest.mark.parametrize(
    "model",
    [nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 1)), nn.LayerNorm(2).requires_grad_(False)],
    ids=["none", "without parameters", "frozen"],
)
def test_a_model_without_normalization_layers_is_refused(model):
    with pytest.raises(ValueError, match="has no normalization layer with a parameter that is trained"):
        norm_groups(model)
