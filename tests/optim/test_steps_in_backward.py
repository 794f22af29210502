"""Bases that step in a hook of the backward pass: refused with the reason, whatever the hook leaves behind."""

import pytest
import torch

import sharpmin as sm


def writes(opt, p):
    """In a class of its own, whose `step()` does nothing."""
    with torch.no_grad():
        p.sub_(p.grad, alpha=0.1)


def writes_and_clears(opt, p):
    writes(opt, p)
    p.grad = None


def steps(opt, p):
    opt.step()


def steps_and_clears(opt, p):
    opt.step()
    opt.zero_grad()


class Idle(torch.optim.SGD):
    def step(self, closure=None):
        pass


def hooked(f, hook):
    base = (Idle if hook in (writes, writes_and_clears) else torch.optim.SGD)([f.w], lr=0.1)
    f.w.register_post_accumulate_grad_hook(lambda p: hook(base, p))
    return base


@pytest.mark.parametrize("hook", [writes, writes_and_clears, steps, steps_and_clears])
def test_refused(quadratic, door, hook):
    f = quadratic()
    opt = sm.SAM(hooked(f, hook), rho=0.5)
    with pytest.raises(sm.PhaseError, match=r"steps in such a hook .*, as LOMO does, cannot be used in SAM.*remove the hook"):
        door(opt, f)
    opt.abort()
    once = [3.0 - 0.1 * 3.0, 1.0 - 0.1 * 4.0]  # by the first pass alone: what the second one wrote is undone
    assert f.w.tolist() == pytest.approx(once, abs=1e-12)


def test_two_steps_too(quadratic):
    f = quadratic()
    opt = sm.SAM(hooked(f, writes), rho=0.5)
    f()
    opt.first_step()
    f()
    with pytest.raises(sm.PhaseError, match="has written to the weights in the second pass"):
        opt.second_step()
    assert f.w.tolist() == pytest.approx([2.7, 0.6], abs=1e-12)


def test_also_where_rho_is_zero(quadratic, block_door):
    """The second pass would step again."""
    f = quadratic()
    with pytest.raises(sm.PhaseError, match="has written to the weights in the second pass"):
        block_door(sm.SAM(hooked(f, writes), rho=0.0), f)


def test_a_hook_that_only_looks_is_fine(quadratic, door):
    f, looked = quadratic(), []
    f.w.register_post_accumulate_grad_hook(lambda p: looked.append(p.grad.clone()))
    door(sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5), f)
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)
    assert len(looked) == 2


def test_the_usual_mistakes_name_no_hook(quadratic):
    """Where there is none."""
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    with pytest.raises(sm.PhaseError, match="no first gradient") as missing:
        opt.perturb()
    with pytest.raises(sm.PhaseError, match="left no gradient") as closure:
        opt.step(lambda: 0.0)
    f()
    opt.perturb()
    with pytest.raises(sm.PhaseError, match=r"SGD\.step\(\) came while") as early:
        opt.base.step()
    assert not any("hook" in str(error.value) for error in (missing, closure, early))
