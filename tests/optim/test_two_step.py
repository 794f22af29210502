"""Scripts written for the common two-step wrapper, and its checkpoints."""

import copy
import io

import pytest
import torch
from torch import nn

import sharpmin as sm


class TwoStep(torch.optim.Optimizer):
    """The common wrapper in its essence: shares groups with its base, and keeps w in its own state, which alone is saved."""

    def __init__(self, params, base_optimizer, rho=0.05, **options):
        super().__init__(params, {"rho": rho, **options})
        self.base_optimizer = base_optimizer(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        norm = torch.stack([p.grad.norm() for group in self.param_groups for p in group["params"]]).norm()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old_p"] = p.clone()
                p.add_(p.grad * (group["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["old_p"])
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()


def script(opt, backward):
    """The loop of such a script."""
    loss = backward()
    opt.first_step(zero_grad=True)
    backward()
    opt.second_step(zero_grad=True)
    return loss


@pytest.mark.parametrize("first", [{}, {"zero_grad": True}, {"zero_grad": False}], ids=str)
@pytest.mark.parametrize("second", [{}, {"zero_grad": True}, {"zero_grad": False}], ids=str)
@pytest.mark.parametrize("steps", [1, 2])
def test_the_golden_step_whatever_is_cleared(*, path, quadratic, first, second, steps):
    """The gradients of the two passes are never added up."""
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    for _ in range(steps):
        opt.zero_grad()
        f()
        opt.first_step(**first)
        assert f.w.grad is None
        f()
        opt.second_step(**second)
    if second.get("zero_grad"):
        assert f.w.grad is None
    else:
        x, y = f.visited[-1].tolist()
        assert f.w.grad.tolist() == pytest.approx([x, 4 * y], abs=1e-12)
    assert f.visited[1].tolist() == pytest.approx([3.3, 1.4], abs=1e-12)
    assert steps > 1 or f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)
    assert opt.last.passes == 2
    assert opt.last.stepped


def test_flags_by_position(quadratic):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    f()
    opt.first_step(True)
    f()
    opt.second_step(True)
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)
    assert f.w.grad is None


BASES = {
    "adam": (torch.optim.Adam, {"lr": 0.05}),
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2, "nesterov": True}),
}


@pytest.mark.parametrize("name", BASES)
def test_the_same_trajectory_as_the_common_wrapper(training, name):
    kind, options = BASES[name]
    f, g = training(), training()
    ours = sm.SAM(kind(f.net.parameters(), **options), rho=0.2)
    theirs = TwoStep(g.net.parameters(), kind, rho=0.2, **options)
    for _ in range(10):
        assert script(ours, f).item() == pytest.approx(script(theirs, g).item(), rel=1e-9)
    for p, q in zip(f.net.parameters(), g.net.parameters(), strict=True):
        assert p.flatten().tolist() == pytest.approx(q.flatten().tolist(), abs=1e-9)


@pytest.mark.parametrize("descent", [sm.Perturbed(), sm.Mix(0.3)], ids=str)
def test_the_same_as_the_block(path, training, block_door, bits, descent):
    f, g = training(), training()
    script_opt, block_opt = (sm.SAM(torch.optim.Adam(h.net.parameters(), lr=0.05), rho=0.2, descent=descent) for h in (f, g))
    for _ in range(10):
        assert script(script_opt, f).item() == block_door(block_opt, g).item()
    assert bits(f.weights) == bits(g.weights)
    assert bits(script_opt.state_dict()) == bits(block_opt.state_dict())
    assert script_opt.last == block_opt.last


def test_hooks_fire_once_and_a_scheduler_does_not_complain(quadratic):
    f, calls = quadratic(), []
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    for owner, name in ((opt, "sam"), (opt.base, "base")):
        owner.register_step_pre_hook(lambda *_, name=name: calls.append(f"{name} before"))
        owner.register_step_post_hook(lambda *_, name=name: calls.append(f"{name} after"))
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1, gamma=0.1)
    script(opt, f)
    scheduler.step()
    assert calls == ["sam before", "base before", "base after", "sam after"]
    assert opt.base.param_groups[0]["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        (["second_step"], r"phase 'clean'; call perturb\(\) first"),
        (["first_step", "first_step"], "while the weights are perturbed"),
        (["first_step", "step"], "perturbed"),
        (["first_step", "second_step", "second_step"], r"call perturb\(\) first"),
    ],
    ids=str,
)
def test_the_wrong_order(quadratic, bits, calls, words):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    *right, wrong = calls
    f()
    for call in right:
        getattr(opt, call)()
        f()
    before = bits(f.w)
    with pytest.raises(sm.PhaseError, match=words):
        getattr(opt, wrong)()
    assert bits(f.w) == before
    if right == ["first_step"]:
        opt.second_step(zero_grad=True)
    opt.zero_grad()
    f.w.data.copy_(torch.tensor([3.0, 1.0]))
    script(opt, f)
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)


def test_scope_microbatch_asks_for_its_blocks(quadratic):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5, scope="microbatch")
    f()
    with pytest.raises(sm.PhaseError, match=r"opt\.clean\(\)"):
        opt.first_step(zero_grad=True)
    assert f.w.tolist() == [3.0, 1.0]


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("key", ["old_p", "e_w"])
@pytest.mark.parametrize("name", BASES)
def test_their_checkpoint_is_refused(*, training, bits, block_door, key, name):
    kind, options = BASES[name]
    f, g = training(), training()
    theirs = TwoStep(g.net.parameters(), kind, rho=0.2, **options)
    script(theirs, g)
    state = through_a_file(theirs.state_dict())
    assert {k for entry in state["state"].values() for k in entry} == {"old_p"}  # no momentum, no averages
    for entry in state["state"].values():
        entry[key] = entry.pop("old_p")
    opt = sm.SAM(kind(f.net.parameters(), **options), rho=sm.rho.InverseSqrt(0.2))
    block_door(opt, f)
    was, weights, groups = bits(opt.state_dict()), bits(f.weights), copy.copy(opt.param_groups[0])
    with pytest.raises(ValueError, match=rf"two-step.*'{key}'.*state of its base optimizer.*fresh optimizer"):
        opt.load_state_dict(state)
    assert (bits(opt.state_dict()), bits(f.weights)) == (was, weights)
    assert opt.param_groups[0].keys() == groups.keys()
    assert opt.param_groups[0]["rho"] == sm.rho.InverseSqrt(0.2)


@pytest.mark.parametrize("name", BASES)
def test_checkpoints_pass_between_sam_and_the_bare_base(training, block_door, bits, name):
    """base -> SAM -> base: at rho = 0 the whole is one unbroken run of the base."""
    kind, options = BASES[name]
    f, g = training(), training()
    plain = kind(f.net.parameters(), **options)

    def bare(opt, h):
        opt.zero_grad()
        h()
        opt.step()

    def fresh():
        return kind(g.net.parameters(), **options)

    for _ in range(9):
        bare(plain, f)
    first = fresh()
    for _ in range(3):
        bare(first, g)
    opt = sm.SAM(fresh(), rho=0.0)
    opt.load_state_dict(through_a_file(first.state_dict()))
    for _ in range(3):
        block_door(opt, g)
    last = fresh()
    last.load_state_dict(through_a_file(opt.state_dict()))
    for _ in range(3):
        bare(last, g)
    assert bits(f.weights) == bits(g.weights)
    assert bits(plain.state_dict()["state"]) == bits(last.state_dict()["state"])
    again = sm.SAM(last, rho=0.0)
    assert again.param_groups[0]["sharpmin_step"] == 3


def test_a_bare_checkpoint_goes_on_with_sam(training, block_door, bits):
    """The same as a SAM that was switched on after three steps of the base."""
    f, g = training(), training()
    late = sm.SAM(torch.optim.Adam(f.net.parameters(), lr=0.05), rho=sm.rho.Tail(0.2, start=3))
    base = torch.optim.Adam(g.net.parameters(), lr=0.05)
    for _ in range(6):
        block_door(late, f)
    for _ in range(3):
        base.zero_grad()
        g()
        base.step()
    opt = sm.SAM(torch.optim.Adam(nn.ParameterList(g.net.parameters()), lr=1.0), rho=0.2)
    opt.load_state_dict(through_a_file(base.state_dict()))
    assert opt.param_groups[0]["lr"] == 0.05
    for _ in range(3):
        block_door(opt, g)
    assert bits(f.weights) == bits(g.weights)
