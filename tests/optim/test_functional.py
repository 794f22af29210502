"""Functional SAM: every door, window and scope against the equations by hand, and what cannot be right is refused."""

import copy
import pickle
from contextlib import suppress

import pytest
import torch
from tests.sam_by_hand import functional_gradient, step
from torch import nn
from torch.nn.functional import cross_entropy

import sharpmin as sm

RHO, LR = 0.3, 0.1


def net(dropout=0.0):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 3)).double()


def batches(count=1, rows=6):
    rng = torch.Generator().manual_seed(2)
    return [(torch.randn(rows, 4, generator=rng).double(), torch.randint(3, (rows,), generator=rng)) for _ in range(count)]


def sam(model, rho=RHO, **keywords):
    return sm.SAM(torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9), rho=rho, **keywords)


def by_hand(model, windows, rho=RHO):
    """Steps of Functional SAM, a window of micro-batches each, in plain torch."""
    model = copy.deepcopy(model)
    base = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    for window in windows:
        n = len(window)
        pairs = [(lambda x=x: model(x), lambda z, y=y, n=n: cross_entropy(z, y) / n) for x, y in window]
        grads, _ = functional_gradient(model, pairs, rho)
        step(base, list(model.parameters()), grads)
    return model


def blocks(opt, model, loss_fn, window):
    opt.zero_grad()
    with opt.clean():
        passed(model, loss_fn, window)
    with opt.perturbed():
        passed(model, loss_fn, window)
    opt.step()


def closure(opt, model, loss_fn, window):
    def both():
        opt.zero_grad()
        return passed(model, loss_fn, window)

    opt.step(both)


def phases(opt, model, loss_fn, window):
    opt.zero_grad()
    with opt.clean():
        passed(model, loss_fn, window)
    opt.perturb()
    passed(model, loss_fn, window)
    opt.restore()
    opt.step()


def one_backward(opt, model, loss_fn, window):
    """The losses of a window are added, and differentiated together."""
    opt.zero_grad()
    for block in (opt.clean, opt.perturbed):
        with block():
            sum(loss_fn(model(x), y) / len(window) for x, y in window).backward()
    opt.step()


DOORS = [blocks, closure, phases, one_backward]


def passed(model, loss_fn, window):
    total = 0.0
    for x, y in window:
        loss = loss_fn(model(x), y) / len(window)
        loss.backward()
        total += loss.detach()
    return total


def same(found, wanted, tolerance=1e-13):
    for a, b in zip(found.parameters(), wanted.parameters(), strict=True):
        assert (a - b).abs().max().item() <= tolerance


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("size", [1, 3])
def test_steps_are_those_by_hand(door, dropout, size):
    model = net(dropout)
    windows = [batches(size) for _ in range(3)]
    torch.manual_seed(5)
    wanted = by_hand(model, windows)
    opt = sam(model)
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    torch.manual_seed(5)
    for window in windows:
        door(opt, model, loss_fn, window)
    same(model, wanted)
    assert opt.last.passes == 2


def test_it_is_not_plain_sam():
    model, plain = net(), net()
    blocks(opt := sam(model), model, sm.FunctionalLoss(opt, cross_entropy), batches())
    blocks(sam(plain), plain, cross_entropy, batches())
    assert max((a - b).abs().max().item() for a, b in zip(model.parameters(), plain.parameters(), strict=True)) > 1e-4


PARTS = [{}, {"telemetry": True}, {"geometry": sm.Elementwise(0.1)}, {"descent": sm.Mix(weight=3.0)}, {"ascent": sm.Ema()}]


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_the_second_pass_bit_for_bit(parts):
    """The block by hand: the same perturbed(), with z.backward(v) in place of a loss."""
    model, hand = net().float(), net().float()
    ((x, y),) = [(x.float(), y) for x, y in batches()]
    opt, other = sam(model, **parts), sam(hand, **parts)
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    for _ in range(3):
        blocks(opt, model, loss_fn, [(x, y)])
        other.zero_grad()
        z = hand(x)
        (v,) = torch.autograd.grad(cross_entropy(z, y), z, retain_graph=True)
        z.backward(v)
        with other.perturbed():
            hand(x).backward(v)
        other.step()
    assert all(map(torch.equal, model.parameters(), hand.parameters()))


def test_microbatches_have_an_e_of_their_own():
    model = net()
    window = batches(3)
    wanted = copy.deepcopy(model)
    grads = [
        functional_gradient(wanted, [(lambda x=x: wanted(x), lambda z, y=y: cross_entropy(z, y))], RHO)[0] for x, y in window
    ]
    step(torch.optim.SGD(wanted.parameters(), lr=LR), list(wanted.parameters()), [sum(g) / 3 for g in zip(*grads, strict=True)])
    opt = sam(model, scope="microbatch")
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    for x, y in window:
        for block in (opt.clean, opt.perturbed):
            with block():
                (loss_fn(model(x), y) / 3).backward()
    opt.step()
    same(model, wanted)


def test_a_loss_scaler_changes_nothing():
    model, scaled = net().float(), net().float()
    window = [(x.float(), y) for x, y in batches()]
    blocks(opt := sam(model), model, sm.FunctionalLoss(opt, cross_entropy), window)
    opt, scaler = sam(scaled), torch.amp.GradScaler("cpu", init_scale=2.0**12)
    loss_fn, ((x, y),) = sm.FunctionalLoss(opt, cross_entropy), window
    with opt.clean():
        scaler.scale(loss_fn(scaled(x), y)).backward()
    with opt.perturbed(scaler):
        scaler.scale(loss_fn(scaled(x), y)).backward()
    scaler.step(opt)
    same(scaled, model, 1e-8)


def test_half_precision_logits_keep_small_slopes():
    """dL/dz of a mean over many rows is below what float16 can hold; a loss scale brings it back."""
    z = torch.zeros(4, 3, dtype=torch.float16, requires_grad=True)
    opt = sm.SAM(torch.optim.SGD([z], lr=1.0))
    loss_fn = sm.FunctionalLoss(opt, lambda logits: 1e-9 * logits.sum())
    with opt.clean():
        (loss_fn(z * 1.0) * 2.0**20).backward()
    assert z.grad.flatten().tolist() == pytest.approx([1e-9 * 2**20] * 12, rel=1e-3)


def test_a_penalty_outside_descends_as_under_plain_sam():
    """loss(z) constant in z: what is left is plain SAM on the penalty."""
    model, plain = net(), net()
    opt, other = sam(model), sam(plain)
    loss_fn, ((x, _),) = sm.FunctionalLoss(opt, lambda z: 0.0 * z.sum()), batches()

    def penalty(m):
        return sum((p**2).sum() for p in m.parameters())

    for o, loss in ((opt, lambda: loss_fn(model(x)) + penalty(model)), (other, lambda: penalty(plain))):
        for block in (o.clean, o.perturbed):
            with block():
                loss().backward()
        o.step()
    same(model, plain)


def test_where_rho_is_zero_it_is_the_base():
    model, base = net(), net()
    ((x, y),) = batches()
    opt = sam(model, rho=0.0)
    blocks(opt, model, sm.FunctionalLoss(opt, cross_entropy), [(x, y)])
    plain = torch.optim.SGD(base.parameters(), lr=LR, momentum=0.9)
    cross_entropy(base(x), y).backward()
    plain.step()
    same(model, base, 0.0)


def test_steps_without_a_second_pass_leave_nothing_behind():
    """Every second step climbs; the others have one pass, and what it kept is forgotten."""
    model = net()
    opt = sam(model, rho=sm.rho.Every(RHO, k=2))
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    for _ in range(4):
        opt.zero_grad()
        with opt.clean():
            passed(model, loss_fn, batches(2))
        if opt.needs_second_pass:
            with opt.perturbed():
                passed(model, loss_fn, batches(2))
        opt.step()
    assert (opt.last.steps, opt.last.climbed) == (4, 2)


def test_evaluation_is_the_loss_and_nothing_else():
    model = net()
    opt = sam(model)
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    ((x, y),) = batches()
    with torch.no_grad():
        assert torch.equal(loss_fn(model(x), y), cross_entropy(model(x), y))
    blocks(opt, model, loss_fn, [(x, y)])


WRONG = {
    "another shape": lambda x, y: (x[:-1], y[:-1]),
    "other targets": lambda x, y: (x, (y + 1) % 3),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_another_batch_in_the_second_pass_is_refused(wrong):
    model, opt, loss_fn, x, y = after_the_first_pass()
    was = copy.deepcopy(model)
    a, b = WRONG[wrong](x, y)
    with pytest.raises(sm.PhaseError, match=r"(?s)another batch.*with opt\.clean"), opt.perturbed():
        loss_fn(model(a), b)
    same(model, was, 0.0)
    blocks(opt, model, loss_fn, [(x, y)])
    same(model, by_hand(was, [[(x, y)]]))


def after_the_first_pass():
    model = net()
    opt = sam(model)
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    ((x, y),) = batches()
    with opt.clean():
        loss_fn(model(x), y).backward()
    return model, opt, loss_fn, x, y


def test_targets_that_were_written_to_are_refused():
    model, opt, loss_fn, x, y = after_the_first_pass()
    y.add_(1).remainder_(3)
    with pytest.raises(sm.PhaseError, match="other values"), opt.perturbed():
        loss_fn(model(x), y).backward()


def test_equal_targets_in_another_tensor_pass():
    model, opt, loss_fn, x, y = after_the_first_pass()
    with opt.perturbed():
        loss_fn(model(x), y.clone()).backward()
    opt.step()
    same(model, by_hand(net(), [[(x, y)]]))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_batch_comes_again(count):
    """Of two batches in the first pass: none, one, or one too many in the second."""
    model = net()
    opt = sam(model)
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    was = copy.deepcopy(model)
    window = batches(2)
    with opt.clean():
        passed(model, loss_fn, window)
    with pytest.raises(sm.PhaseError, match=r"1 of|2 of|more batches"), opt.perturbed():
        passed(model, loss_fn if count else cross_entropy, [*window, *window][: count or 2])
    same(model, was, 0.0)
    opt.zero_grad()
    blocks(opt, model, loss_fn, window)
    same(model, by_hand(was, [window]))


def test_a_first_pass_that_was_given_up_belongs_to_nothing():
    model = net()
    opt = sam(model)
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    ((x, y),) = batches()
    with suppress(KeyboardInterrupt), opt.clean():
        loss_fn(model(x), y)
        raise KeyboardInterrupt
    blocks(opt, model, loss_fn, [(x, y)])
    with suppress(KeyboardInterrupt):
        with opt.clean():
            loss_fn(model(x), y).backward()
        with opt.perturbed():
            raise KeyboardInterrupt
    blocks(opt, model, loss_fn, [(x, y)])
    same(model, by_hand(net(), [[(x, y)]] * 2))


def test_without_clean_it_is_refused():
    model = net()
    opt = sam(model)
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    ((x, y),) = batches()
    with pytest.raises(sm.PhaseError, match=r"(?s)outside clean\(\).*with opt\.clean"):
        loss_fn(model(x), y)


def test_an_ascent_without_a_first_pass_is_refused():
    model = net()
    opt = sam(model, ascent=sm.Momentum())
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    ((x, y),) = batches()
    with pytest.raises(sm.PhaseError, match="no first pass"), opt.perturbed():
        loss_fn(model(x), y).backward()


SCALE = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
BAD = {
    "a vector": (lambda z, y: z.sum(1), TypeError, "shape \\(6,\\)"),
    "a number": (lambda z, y: 1.0, TypeError, "a float"),
    "detached": (lambda z, y: cross_entropy(z.detach(), y), ValueError, "does not depend on the logits"),
    "a weight beside the logits": (lambda z, y: cross_entropy(z * SCALE, y), ValueError, "shape \\(\\) beside the logits"),
    "a weight alone": (lambda z, y: SCALE * 1.0, ValueError, "beside the logits"),
}


@pytest.mark.parametrize("name", BAD)
def test_losses_that_are_refused(name):
    loss, error, match = BAD[name]
    model = net()
    opt = sam(model)
    ((x, y),) = batches()
    with pytest.raises(error, match=match), opt.clean():
        sm.FunctionalLoss(opt, loss)(model(x), y)


def test_arguments_that_are_refused():
    model = net()
    opt = sam(model)
    with pytest.raises(TypeError, match="opt=SGD is no SAM"):
        sm.FunctionalLoss(opt.base, cross_entropy)
    with pytest.raises(TypeError, match="loss_fn=float cannot be called"):
        sm.FunctionalLoss(opt, 1.0)
    with pytest.raises(TypeError, match=r"a dict; give the logits"), opt.clean():
        sm.FunctionalLoss(opt, cross_entropy)({"logits": 1})


def test_others_on_the_same_sam_ask_for_nothing():
    """One of two losses is used in a step; one that is lost is no longer asked."""
    model = net()
    opt = sam(model)
    losses = [sm.FunctionalLoss(opt, cross_entropy) for _ in range(2)]
    for loss_fn in losses:
        blocks(opt, model, loss_fn, batches())
    del losses, loss_fn
    last = sm.FunctionalLoss(opt, cross_entropy)
    assert [check() for check in opt._passes.checks] == [last]
    blocks(opt, model, last, batches())
    same(model, by_hand(net(), [batches()] * 3))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))], ids=["copy", "pickle"])
def test_a_copy_is_asked_nothing(clone):
    opt = sam(net())
    keep = sm.FunctionalLoss(opt, cross_entropy)
    assert clone(opt)._passes.checks == []
    assert opt._passes.checks[0]() is keep
