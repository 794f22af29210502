"""`sharpmin.check`: what fails on a set-up of one's own, with the fix, and that the set-up never moves."""

import copy
import re

import pytest
import torch
from right_sam import Right
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import sharpmin as sm
from sharpmin._check._report import Outcome

LOSS = nn.functional.cross_entropy
SEEDED = torch.Generator().manual_seed(0)  # outside of a test torch's own generator has another seed in every process
BATCH = torch.randn(16, 4, generator=SEEDED), torch.randint(3, (16,), generator=SEEDED)
PASSED = {"finite", "ascent", "rho-zero", "missing-first", "restore-exact", "second-pass-error", "base-step-error"}
PASSED |= {"first-steps", "lost-wrapper", "scheduler-linked", "resume", "rho-assigned"}
NOTHING_TO_ASK = {"outside-gradients", "base-methods", "own-store", "copied-attributes"}


def plain():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def noisy():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def adam(net, **options):
    return torch.optim.AdamW(net.parameters(), lr=0.01, **options)


def statuses(report, status):
    return {outcome.family for outcome in report if outcome.status == status}


def only(report, family):
    return next(outcome for outcome in report if outcome.family == family)


@pytest.mark.parametrize("door", [None, "block", "clean", "closure", "two-step"])
def test_a_plain_net_passes(door):
    net = plain()
    report = sm.check(net, LOSS, BATCH, sm.SAM(adam(net)), door=door)
    assert report.ok
    both = {"rest-counts"} if door != "closure" else set()  # a closure makes one pass where rho is 0
    assert statuses(report, "passed") == PASSED | both
    assert statuses(report, "not applicable") == NOTHING_TO_ASK | {"batchnorm-once", "same-mask", "rest-counts"} - both
    assert report.summary == f"19 families: {12 + len(both)} passed, 0 failed, {7 - len(both)} not applicable"


@pytest.mark.parametrize("door", ["clean", "closure"])
def test_a_noisy_net_passes_with_model_and_clean(door):
    net = noisy()
    report = sm.check(net, LOSS, BATCH, sm.SAM(adam(net), model=net), door=door)
    both = {"rest-counts"} if door != "closure" else set()
    assert statuses(report, "passed") == PASSED | {"batchnorm-once", "same-mask"} | both


def test_batchnorm_without_model():
    net = noisy()
    report = sm.check(net, LOSS, BATCH, sm.SAM(adam(net)), door="clean")
    assert statuses(report, "failed") == {"batchnorm-once"}
    outcome = only(report, "batchnorm-once")
    assert outcome.observed == "3 of 3 buffers are not those of one pass: 1.running_mean, 1.num_batches_tracked counts 2"
    assert outcome.fix.startswith("pass model=model to sharpmin.SAM")
    assert "fix: pass model=model" in str(report)


def test_a_filter_that_leaves_a_buffer_out():
    net = noisy()
    opt = sm.SAM(adam(net), model=net, buffers=lambda name, _: "tracked" not in name)
    outcome = only(sm.check(net, LOSS, BATCH, opt, door="clean"), "batchnorm-once")
    assert outcome.observed == "1 of 3 buffers are not those of one pass: 1.num_batches_tracked, 1.num_batches_tracked counts 2"


@pytest.mark.parametrize("door", [None, "two-step"])
def test_dropout_without_clean(door):
    net = noisy()
    report = sm.check(net, LOSS, BATCH, sm.SAM(adam(net), model=net), door=door)
    assert statuses(report, "failed") == {"same-mask", "rho-zero"}  # a mask drawn anew counts, as all that runs in the block
    assert all("with opt.clean():" in only(report, name).fix for name in ("same-mask", "rho-zero"))


def test_first_steps_are_compared_under_the_same_masks():
    net = noisy()
    opt = sm.SAM(adam(net), rho=1e-9, model=net)
    seen = only(sm.check(net, LOSS, BATCH, opt, door="clean"), "first-steps").observed
    held, without = re.findall(r" to ([0-9.]+)", seen)
    assert held == without


def test_bfloat16_weights_lose_the_ascent():
    net = plain().bfloat16()
    batch = BATCH[0].bfloat16(), BATCH[1]
    report = sm.check(net, LOSS, batch, sm.SAM(adam(net), rho=1e-4))
    assert statuses(report, "failed") == {"ascent"}
    assert "rounding" in only(report, "ascent").fix
    assert sm.check(net, LOSS, batch, sm.SAM(adam(net), rho=0.5)).ok


def test_rho_zero_and_one_pass():
    net = noisy()
    report = sm.check(net, LOSS, BATCH, sm.SAM(adam(net), rho=0.0, model=net), door="clean")
    assert report.ok
    assert only(report, "ascent").observed == "rho is 0 at this step"
    report = sm.check(net, LOSS, BATCH, sm.SAM(torch.optim.SGD(net.parameters(), momentum=0.9), ascent=sm.Momentum()))
    assert report.ok
    assert only(report, "same-mask").observed == "this ascent takes one pass a step"


def test_microbatches_and_schedules():
    net = plain()
    assert sm.check(net, LOSS, BATCH, sm.SAM(adam(net), rho=sm.rho.Cosine(0.05, steps=10), scope="microbatch")).ok


def test_a_batch_that_is_not_finite():
    net = plain()
    report = sm.check(net, LOSS, (BATCH[0] / 0, BATCH[1]), sm.SAM(adam(net)))
    assert "finite" in statuses(report, "failed")


# The set-up never moves.


def snapshot(net, opt, scheduler):
    groups = [{k: v for k, v in group.items() if k != "params"} for group in opt.param_groups]
    state = [{k: v.clone() for k, v in opt.state[p].items()} for p in net.parameters()]
    tensors = [t.clone() for t in (*net.parameters(), *net.buffers(), torch.get_rng_state())]
    grads = [(id(p.grad), None if p.grad is None else p.grad.clone()) for p in net.parameters()]
    modes = [module.training for module in net.modules()]
    return copy.deepcopy(groups), state, tensors, grads, modes, scheduler.state_dict()


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return len(a) == len(b) and all(map(equal, a, b)) if isinstance(a, list | tuple) else a == b


@pytest.mark.parametrize("kind", ["ours", "two-step", "closure"])
def test_nothing_moves(kind, capsys):
    net, calls = noisy(), []
    net[3].eval()
    opt = sm.SAM(adam(net), model=net) if kind == "ours" else Right(net.parameters(), torch.optim.AdamW, lr=0.01)
    scheduler = CosineAnnealingLR(opt, 10)
    opt.register_step_pre_hook(lambda *_: calls.append(1))

    def closure():
        opt.zero_grad()
        loss = LOSS(net(BATCH[0]), BATCH[1])
        loss.backward()
        return loss

    for _ in range(2):
        opt.step(closure)
        scheduler.step()
    calls.clear()
    before, batch = snapshot(net, opt, scheduler), copy.deepcopy(BATCH)
    sm.check(net, LOSS, BATCH, opt, door=None if kind == "ours" else kind)
    assert equal(before, snapshot(net, opt, scheduler))
    assert equal(batch, BATCH)
    assert calls == []
    assert capsys.readouterr() == ("", "")
    opt.step(closure)  # and it goes on
    assert calls == [1]


def test_nothing_moves_if_the_loss_holds_on_to_the_model():
    net = plain()
    LOSS(net(BATCH[0]), BATCH[1]).backward()
    before = [(p.clone(), p.grad.clone(), id(p.grad)) for p in net.parameters()]

    def loss_fn(output, target):
        return LOSS(output, target) + 0.1 * sum(p.square().sum() for p in net.parameters())

    sm.check(net, loss_fn, BATCH, sm.SAM(adam(net)))
    assert equal(before, [(p, p.grad, id(p.grad)) for p in net.parameters()])


def test_nothing_moves_if_it_is_interrupted():
    class Interrupting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = noisy(), [0]

        def __deepcopy__(self, memo):
            twin = Interrupting()
            twin.inner, twin.calls = copy.deepcopy(self.inner, memo), self.calls
            return twin

        def forward(self, x):
            self.calls[0] += 1
            if self.calls[0] > 4:
                raise KeyboardInterrupt
            return self.inner(x)

    net = Interrupting()
    state, random = copy.deepcopy(net.inner.state_dict()), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        sm.check(net, LOSS, BATCH, sm.SAM(adam(net)))
    assert equal(dict(state), dict(net.inner.state_dict()))
    assert torch.equal(random, torch.get_rng_state())


# Bad use.


def test_the_report_is_a_sequence_of_outcomes():
    net = plain()
    report = sm.check(net, LOSS, BATCH, sm.SAM(adam(net)))
    assert len(report) == 19
    assert all(isinstance(outcome, Outcome) for outcome in report)
    assert max(map(len, str(report).splitlines())) <= 80


NET = plain()
REFUSED = [
    ((NET, LOSS, BATCH[0], None), TypeError, r"batch is a Tensor; give the pair \(inputs, targets\)"),
    ((NET, LOSS, (*BATCH, 3), None), TypeError, "batch is 3 things"),
    ((NET.parameters(), LOSS, BATCH, None), TypeError, "model is a generator"),
    ((NET, 3, BATCH, None), TypeError, "loss_fn is a int"),
    ((NET, lambda output: output.sum(), BATCH, None), TypeError, r"loss_fn\(model\(inputs\), targets\) raised TypeError"),
    ((NET, lambda output, target: output, BATCH, None), TypeError, r"is a tensor of shape \(16, 3\); it must be a scalar"),
    ((NET, lambda output, target: 1.0, BATCH, None), TypeError, "is a float; it must be a scalar"),
    ((NET, LOSS, (BATCH[0][:, :2], BATCH[1]), None), TypeError, "raised RuntimeError: mat1 and mat2"),
    ((NET, LOSS, BATCH, 3), TypeError, "opt is a int, which has no param_groups"),
    ((NET, LOSS, BATCH, sm.SAM(adam(plain()))), ValueError, "opt holds none of the model's parameters"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_refusals(arguments, kind, message):
    *rest, opt = arguments
    with pytest.raises(kind, match=message):
        sm.check(*rest, sm.SAM(adam(NET)) if opt is None else opt)


def test_doors():
    with pytest.raises(ValueError, match="door='window'; give one of block, clean"):
        sm.check(NET, LOSS, BATCH, sm.SAM(adam(NET)), door="window")
    with pytest.raises(TypeError, match=r"check: opt \(Right\) has no door 'block'"):
        sm.check(NET, LOSS, BATCH, Right(NET.parameters(), torch.optim.SGD, lr=0.1), door="block")


def test_a_model_that_cannot_be_copied():
    net = plain()
    net.cache = net(BATCH[0])
    with pytest.raises(TypeError, match="the set-up cannot be copied"):
        sm.check(net, LOSS, BATCH, sm.SAM(adam(net)))


def test_in_the_middle_of_a_step():
    net = plain()
    opt = sm.SAM(adam(net))
    LOSS(net(BATCH[0]), BATCH[1]).backward()
    with opt.perturbed():
        with pytest.raises(sm.PhaseError, match="copying"):
            sm.check(net, LOSS, BATCH, opt)
        LOSS(net(BATCH[0]), BATCH[1]).backward()
    opt.step()
