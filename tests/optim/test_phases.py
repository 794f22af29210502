"""Mid-step hygiene: nothing may happen on perturbed weights that cannot be right, and an exception leaves no trace."""

import copy
import pickle
import re
import sys

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim import L2, Gradient, Momentum


def make(f, **options):
    return sm.SAM(torch.optim.SGD([f.w], lr=0.1, momentum=0.5), rho=0.5, **options)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, StopIteration, GeneratorExit, MemoryError])
@pytest.mark.parametrize("when", ["before backward", "after backward"])
def test_an_exception_in_the_second_pass(quadratic, block_door, bits, error, when):
    f, g = quadratic(), quadratic()
    opt, other = make(f), make(g)
    was, state = bits(f.w), bits(opt.state_dict())
    f()
    with pytest.raises(error), opt.perturbed():  # noqa: PT012
        if when == "after backward":
            f()
        raise error
    assert (bits(f.w), bits(opt.state_dict())) == (was, state)
    assert f.w.grad is None
    assert opt.last.stepped is False
    block_door(opt, f)
    block_door(other, g)
    assert bits(f.w) == bits(g.w)


@pytest.mark.parametrize("call", [1, 2])
def test_an_exception_in_a_closure(quadratic, block_door, bits, call):
    f = quadratic()
    opt = make(f)
    was = bits(f.w)

    def failing():
        opt.zero_grad()
        loss = f()
        if len(f.visited) == call:
            raise RuntimeError("out of memory")
        return loss

    with pytest.raises(RuntimeError, match="out of memory"):
        opt.step(failing)
    assert bits(f.w) == was
    block_door(opt, f)
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-9)


@pytest.mark.parametrize("leave", ["return", "break", "continue"])
def test_leaving_the_block_early_is_no_exception(quadratic, leave):
    f = quadratic()
    opt = make(f)

    def run():
        for _ in range(1):
            with opt.perturbed():
                f()
                if leave == "return":
                    return
                if leave == "break":
                    break
                continue

    f()
    run()
    opt.step()
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-9)


WHILE_PERTURBED = {
    "state_dict": lambda opt: opt.state_dict(),
    "load_state_dict": lambda opt: opt.load_state_dict({}),
    "step": lambda opt: opt.step(),
    "step(closure)": lambda opt: opt.step(lambda: None),
    "perturb": lambda opt: opt.perturb(),
    "perturbed": lambda opt: opt.perturbed().__enter__(),
    "clean": lambda opt: opt.clean().__enter__(),
    "add_param_group": lambda opt: opt.add_param_group({"params": [nn.Parameter(torch.ones(1))]}),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": pickle.dumps,
    "base.step": lambda opt: opt.base.step(),
    "other.step": lambda opt: torch.optim.Adam(opt.param_groups[0]["params"]).step(),
    "other SAM.step": lambda opt: opt.other.step(),
}


@pytest.mark.parametrize("name", WHILE_PERTURBED)
def test_refused_while_perturbed(quadratic, bits, name):
    f = quadratic()
    opt = make(f)
    opt.other = sm.SAM(torch.optim.SGD([f.w], lr=1.0), rho=0.0)
    state = bits(opt.state_dict())
    f()
    opt.perturb()
    inside = bits(f.w)
    with pytest.raises(sm.PhaseError, match=r"\(w \+ e\).*(restore\(\)|block)"):
        WHILE_PERTURBED[name](opt)
    assert bits(f.w) == inside
    f()
    opt.restore()
    assert bits(opt.state_dict()) == state
    opt.step()
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-9)


@pytest.mark.parametrize("name", ["base.step", "other.step"])
def test_allowed_again_after_the_block(quadratic, name):
    f = quadratic()
    opt = make(f)
    f()
    with opt.perturbed():
        f()
    WHILE_PERTURBED[name](opt)
    f()
    with pytest.raises(ValueError, match="boom"), opt.perturbed():
        raise ValueError("boom")
    WHILE_PERTURBED[name](opt)


def test_optimizers_of_other_parameters_pass(quadratic):
    """Two players, each with its SAM; one steps while the other is perturbed."""
    f, g = quadratic(), quadratic()
    opt, other = make(f), make(g)
    f()
    with opt.perturbed():
        f()
        g()
        with other.perturbed():
            g()
        other.step()
    opt.step()
    for w in (f.w, g.w):
        assert w.tolist() == pytest.approx([2.67, 0.44], abs=1e-9)


LOOP = """
    opt.zero_grad()
    with opt.clean():
        loss_fn(model(x), y).backward()
    with opt.perturbed():
        loss_fn(model(x), y).backward()
    opt.step()
"""
WITHOUT_FIRST = LOOP.replace("    with opt.clean():\n        loss_fn(model(x), y).backward()\n", "")
NAMED = {
    "transformers.trainer": "SAMTrainerMixin",
    "accelerate": "SAMBackward",
    "lightning": "LightningSAM",
    "pytorch_lightning": "LightningSAM",
}


@pytest.mark.parametrize("loaded", [[], ["accelerate", "transformers.trainer"], *([name] for name in NAMED), list(NAMED)])
def test_step_without_a_second_pass_shows_both_recipes_and_the_frameworks_that_are_loaded(quadratic, bits, monkeypatch, loaded):
    for name in NAMED:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in loaded:
        monkeypatch.setitem(sys.modules, name, object())
    f = quadratic()
    opt = make(f)
    was = bits(f.w)
    f()
    with pytest.raises(sm.PhaseError) as caught:
        opt.step()
    said = str(caught.value)
    assert said.startswith(f"step() needs the gradient at the perturbed weights first. Either{LOOP}or, with a closure")
    assert "opt.step(closure)" in said
    assert set(re.findall(r"sharpmin\.integrations\.(\w+)", said)) == {NAMED[name] for name in loaded}
    assert said.count("\nIn ") == len({NAMED[name] for name in loaded})
    assert bits(f.w) == was
    with opt.perturbed():
        f()
    opt.step()
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-9)


def test_without_a_gradient_the_loop_shows_the_passes_that_the_ascent_needs(quadratic):
    f = quadratic()
    for ascent, loop in [(Gradient(), LOOP), (Momentum(), WITHOUT_FIRST)]:
        with pytest.raises(sm.PhaseError, match="(?s)no first gradient.*the order is" + re.escape(loop.rstrip()) + "$"):
            make(f, ascent=ascent).step()
    opt = make(f, ascent=Momentum())
    with opt.perturbed():
        f()
    opt.step()
    f()
    with pytest.raises(
        sm.PhaseError, match=f"With this ascent it is the only one:{re.escape(WITHOUT_FIRST)}or, with a closure"
    ):
        opt.step()


def test_a_second_step_needs_its_own_second_pass(quadratic, door):
    f = quadratic()
    opt = make(f)
    door(opt, f)
    with pytest.raises(sm.PhaseError, match="perturbed weights first"):
        opt.step()


def test_a_second_pass_is_given_up_by_zero_grad(quadratic):
    """Else the next step would silently be one without SAM."""
    f = quadratic()
    opt = make(f)
    f()
    with opt.perturbed():
        f()
    opt.zero_grad()
    f()
    with pytest.raises(sm.PhaseError):
        opt.step()


def test_closure_after_a_finished_second_pass(quadratic):
    f = quadratic()
    opt = make(f)
    f()
    with opt.perturbed():
        f()
    with pytest.raises(sm.PhaseError, match="without closure"):
        opt.step(f)
    opt.step()
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-9)


def test_a_closure_that_makes_both_passes_itself(quadratic):
    """As a framework's hook does, between its backward and its step."""
    f = quadratic()
    opt = make(f)

    def closure():
        opt.zero_grad()
        loss = f()
        with opt.perturbed():
            f()
        return loss

    assert opt.step(closure).item() == 6.5
    assert (len(f.visited), opt.last.passes, opt.last.clean_loss) == (2, 2, 6.5)
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-9)


def test_restore_needs_perturbed_weights(quadratic):
    opt = make(quadratic())
    with pytest.raises(sm.PhaseError, match=r"'clean'.*perturb\(\) first"):
        opt.restore()


def test_clean_is_optional_and_without_effect(quadratic):
    f = quadratic()
    opt = make(f)
    with opt.clean():
        f()
    with opt.perturbed():
        f()
    opt.step()
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-9)


class Breaking(L2):
    """Fails on the second tensor, with the first already moved."""

    def at(self, weights, vectors, context):
        metric = super().at(weights, vectors, context)
        whole = metric.parts

        def half(total):
            for ws, vs, factor in whole(total):
                yield ws[:1], vs[:1], factor
            raise RuntimeError("broken")

        metric.parts = half
        return metric


def test_an_exception_half_way_up(bits):
    ps = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    was = bits(ps)
    opt = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5, geometry=Breaking())
    for p in ps:
        p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="broken"):
        opt.perturb()
    assert bits(ps) == was
    assert all(p.grad is not None for p in ps)
    opt.base.step()


def test_a_failed_climb_is_no_second_pass(quadratic):
    """After READY, a `perturb` that is refused must not leave the door to `step` open."""
    f = quadratic()
    opt = make(f)
    f()
    with opt.perturbed():
        f()
    opt.param_groups[0]["rho"] = -1.0
    with pytest.raises(ValueError, match=r"rho=-1\.0"):
        opt.perturb()
    opt.param_groups[0]["rho"] = 0.5
    with pytest.raises(sm.PhaseError):
        opt.step()


def test_nobody_is_watched_after_the_block(quadratic, block_door):
    from torch.optim.optimizer import _global_optimizer_pre_hooks

    from sharpmin.optim._effects.guard import _before_any_step, _holders

    f = quadratic()
    opt = make(f)
    block_door(opt, f)
    f()
    with pytest.raises(ValueError, match="boom"), opt.perturbed():  # noqa: PT012
        assert [holder() for _, holder in _holders.values()] == [opt.base]
        raise ValueError("boom")
    assert _holders == {}
    assert list(_global_optimizer_pre_hooks.values()).count(_before_any_step) == 1
