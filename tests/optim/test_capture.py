"""A part that remembers is refused while a CUDA graph is being captured; the capture is feigned here, as no GPU is needed."""

import pytest
import torch

import sharpmin as sm

REMEMBER = [{"ascent": sm.Ema()}, {"ascent": sm.Residual()}, {"descent": sm.ReuseOrthogonal()}]
FORGET = [{}, {"ascent": sm.Momentum()}, {"descent": sm.Mix()}, {"geometry": sm.Elementwise()}]


@pytest.fixture
def capture(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)


def made(rho=0.5, **options):
    w = torch.nn.Parameter(torch.ones(3))
    return w, sm.SAM(torch.optim.SGD([w], lr=0.1, momentum=0.9), rho=rho, **options)


@pytest.mark.usefixtures("capture")
@pytest.mark.parametrize("options", REMEMBER, ids=str)
def test_a_memory_is_refused(options):
    w, opt = made(**options)
    w.square().sum().backward()
    with pytest.raises(sm.PhaseError, match=r"has a state.*CUDA graph.*run these steps without a graph"):
        opt.perturb()
    assert w.tolist() == [1.0] * 3
    assert w.grad is not None


@pytest.mark.usefixtures("capture")
def test_on_a_step_of_one_pass_too():
    w, opt = made(rho=0.0, descent=sm.ReuseOrthogonal())
    w.square().sum().backward()
    with pytest.raises(sm.PhaseError, match="CUDA graph"):
        opt.step()


@pytest.mark.usefixtures("capture")
@pytest.mark.parametrize("options", FORGET, ids=str)
def test_all_else_may_be_captured(options):
    w, opt = made(**options)
    for _ in range(2):
        opt.zero_grad()
        if opt.ascent.needs_clean:
            w.square().sum().backward()
        with opt.perturbed():
            w.square().sum().backward()
        opt.step()
    assert opt.last.stepped


@pytest.mark.parametrize("options", REMEMBER, ids=str)
def test_without_a_capture_it_works(options):
    w, opt = made(**options)
    w.square().sum().backward()
    with opt.perturbed():
        w.square().sum().backward()
    opt.step()
    assert opt.last.stepped
