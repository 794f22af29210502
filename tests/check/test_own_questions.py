"""`sharpmin.check` on optimizers of others, and on set-ups with something to ask: other bases, parameters outside."""

import broken_base
import broken_care
import broken_steps
import pytest
import torch
from right_sam import Right, WithModel
from test_own_setup import BATCH, LOSS, adam, noisy, only, plain, statuses

import sharpmin as sm

OTHERS = [
    (broken_care.Subtracts, "two-step", {"restore-exact", "second-pass-error"}),
    (broken_care.Stateless, "two-step", {"resume"}),
    (broken_care.OwnGroups, "two-step", {"scheduler-linked"}),
    (broken_steps.LeastRho, "two-step", {"rho-zero", "rho-assigned"}),
    (broken_care.NoFinally, "closure", {"second-pass-error"}),
    (broken_base.KeepsFirst, "two-step", {"rest-counts"}),
    (broken_base.SumsAtRest, "two-step", {"rho-zero", "rest-counts"}),
    (broken_base.DropsSecond, "two-step", {"missing-first"}),
    (broken_base.DropsSecond, "closure", {"missing-first"}),
    (broken_base.Stuck, "closure", {"base-step-error"}),
    (broken_base.StepsAfterError, "two-step", {"base-step-error"}),
    (broken_base.FixedRho, "two-step", {"rho-assigned"}),
    (Right, "two-step", set()),
    (Right, "closure", set()),
]


@pytest.mark.parametrize(("cls", "door", "expected"), OTHERS)
def test_optimizers_of_others(cls, door, expected):
    net = plain()
    report = sm.check(net, LOSS, BATCH, cls(net.parameters(), torch.optim.AdamW, rho=0.3, lr=0.01), door=door)
    assert statuses(report, "failed") == expected


def test_a_two_step_wrapper_on_a_noisy_net():
    net = noisy()
    report = sm.check(net, LOSS, BATCH, Right(net.parameters(), torch.optim.AdamW, rho=0.3, lr=0.01))
    assert statuses(report, "failed") == {"rho-zero", "batchnorm-once", "same-mask"}
    assert only(report, "batchnorm-once").fix == "put the buffers back after the second pass, all of them, by copy"


class Hidden:
    """Holds its base out of sight, and is no Optimizer."""

    def __init__(self, base):
        self.hidden, self.param_groups, self.rho = {"base": base}, base.param_groups, 0.1

    def zero_grad(self):
        self.hidden["base"].zero_grad()

    def step(self, closure):
        loss = closure()
        self.hidden["base"].step()
        return loss


def test_a_base_that_cannot_be_found():
    net = plain()
    report = sm.check(net, LOSS, BATCH, Hidden(adam(net)))
    needs_base = {"rho-zero", "rest-counts", "base-step-error", "base-methods", "own-store", "copied-attributes"}
    assert statuses(report, "not offered") == needs_base | {"scheduler-linked", "resume"}
    assert only(report, "ascent").observed == "the second pass runs at w: nothing moved"


# Where there is something to ask.


class Rich(torch.optim.AdamW):
    """A base with all that the families about bases ask for."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.scale = torch.ones(1)

    def train(self):
        self.scale.fill_(1.0)

    def eval(self):
        self.scale.fill_(0.0)

    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none)

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.mul_(self.scale)
        super().step()


ABOUT_BASES = {"base-methods", "own-store", "copied-attributes"}
BASES = [
    (Right, set()),
    (broken_base.TorchCopies, {"copied-attributes"}),
    (broken_base.HidesBase, {"base-methods"}),
    (broken_base.OwnModes, {"base-methods"}),
    (broken_base.OwnZero, {"own-store"}),
]


@pytest.mark.parametrize(("cls", "expected"), BASES)
def test_a_base_with_methods_attributes_and_gradients_of_its_own(cls, expected):
    net = plain()
    report = sm.check(net, LOSS, BATCH, cls(net.parameters(), Rich, rho=0.3, lr=0.01), door="two-step")
    assert statuses(report, "failed") == expected
    assert statuses(report, "passed") >= ABOUT_BASES - expected
    if "copied-attributes" in expected:
        assert only(report, "copied-attributes").observed == "the base in a deep copy lacks scale"


@pytest.mark.parametrize("door", ["block", "clean", "closure", "two-step"])
def test_ours_around_such_a_base(door):
    net = plain()
    report = sm.check(net, LOSS, BATCH, sm.SAM(Rich(net.parameters(), lr=0.01)), door=door)
    assert report.ok
    assert statuses(report, "passed") >= ABOUT_BASES


class NoCopy(Rich):
    def __deepcopy__(self, memo):
        raise RuntimeError("one of a kind")


def test_a_copy_that_cannot_be_made_is_no_fault():
    net = plain()
    report = sm.check(net, LOSS, BATCH, broken_base.TorchCopies(net.parameters(), NoCopy, rho=0.3, lr=0.01))
    outcome = only(report, "copied-attributes")
    assert outcome.status == "not applicable"
    assert outcome.observed == "a copy cannot be made: deepcopy raised RuntimeError: one of a kind"
    assert report.ok


@pytest.mark.parametrize("cls", [WithModel, broken_base.AddsOutside])
def test_parameters_outside(cls):
    net = plain()
    report = sm.check(net, LOSS, BATCH, cls(net[2].parameters(), torch.optim.AdamW, 0.3, net, lr=0.01), door="closure")
    assert statuses(report, "failed") == (set() if cls is WithModel else {"outside-gradients"})
    seen = only(report, "outside-gradients")
    assert (seen.observed == "those of the first pass") is (cls is WithModel)


def test_parameters_outside_ours():
    net = plain()
    assert only(sm.check(net, LOSS, BATCH, sm.SAM(adam(net[2]), model=net)), "outside-gradients").status == "passed"
    outcome = only(sm.check(net, LOSS, BATCH, sm.SAM(adam(net[2]))), "outside-gradients")
    assert outcome.observed.startswith("the gradient of 0.weight goes from norm ")
    assert outcome.fix.startswith("pass model=model to sharpmin.SAM")
    net[0].requires_grad_(requires_grad=False)
    outcome = only(sm.check(net, LOSS, BATCH, sm.SAM(adam(net[2]))), "outside-gradients")
    assert outcome.observed == "the optimizer holds every trainable parameter of the model"


def test_a_learning_rate_of_zero_hides_nothing():
    net = plain()
    report = sm.check(net, LOSS, BATCH, Right(net.parameters(), torch.optim.SGD, rho=0.3, lr=0.0))
    assert report.ok
    assert only(report, "missing-first").observed == "no step moves the weights now, as with a learning rate of 0"


def test_a_base_that_takes_sparse_gradients_only():
    net = torch.nn.Sequential(torch.nn.Embedding(9, 3, sparse=True))
    batch = torch.arange(8), torch.zeros(8, dtype=torch.long)
    report = sm.check(net, LOSS, batch, sm.SAM(torch.optim.SparseAdam(net.parameters())))
    assert only(report, "rest-counts").observed.startswith("the base does not step with such a gradient")
