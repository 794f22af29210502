"""A26: parameters of `model=` that SAM does not train come out of the second pass with their gradient of the first one."""

import pytest
import torch
from torch import nn

import sharpmin as sm


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.body, self.head, self.frozen = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(1, 1).requires_grad_(False)
        self.x = torch.randn(5, 3)

    def backward(self):
        loss = self.frozen(self.head(torch.tanh(self.body(self.x)))).square().mean()
        loss.backward()
        return loss


def made(model=True, **options):
    net = Net()
    return net, sm.SAM(torch.optim.SGD(net.body.parameters(), lr=0.1), rho=0.5, model=net if model else None, **options)


@pytest.mark.parametrize("rho", [0.5, 0.0])
@pytest.mark.parametrize("accumulated", [False, True])
def test_they_keep_the_first_gradient(door, rho, accumulated):
    net, opt = made()
    opt.rho = rho
    if accumulated:
        net.backward()
    before = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.head.parameters()]
    twin = Net()
    twin.backward()
    door(opt, net.backward)
    for p, q, was in zip(net.head.parameters(), twin.head.parameters(), before, strict=True):
        torch.testing.assert_close(p.grad, was + q.grad)
    assert all(p.grad is None for p in net.frozen.parameters())


def test_another_optimizer_steps_with_it():
    net, opt = made()
    other = torch.optim.SGD(net.head.parameters(), lr=0.1)
    twin = Net()
    twin.backward()
    net.backward()
    with opt.perturbed():
        net.backward()
    opt.step()
    other.step()
    with torch.no_grad():
        for p, q in zip(net.head.parameters(), twin.head.parameters(), strict=True):
            torch.testing.assert_close(p, q - 0.1 * q.grad)


def test_also_after_an_exception_in_the_block():
    net, opt = made()
    net.backward()
    first = [p.grad.clone() for p in net.head.parameters()]
    with pytest.raises(ValueError, match="boom"), opt.perturbed():  # noqa: PT012
        net.backward()
        raise ValueError("boom")
    assert all(torch.equal(p.grad, g) for p, g in zip(net.head.parameters(), first, strict=True))


def test_one_pass_is_theirs_too():
    """With an ascent of one pass it is the only one."""
    net = Net()
    base = torch.optim.SGD(net.body.parameters(), lr=0.1, momentum=0.9)
    opt = sm.SAM(base, rho=0.5, ascent=sm.Momentum(), model=net)
    for _ in range(2):
        net.zero_grad()
        with opt.perturbed():
            net.backward()
        opt.step()
        assert all(p.grad is not None for p in net.head.parameters())


def test_without_model_nobody_knows_them():
    """Both passes add up there, as in any loop by hand; documented."""
    net, opt = made(model=False)
    twin = Net()
    twin.backward()
    net.backward()
    with opt.perturbed():
        net.backward()
    assert not torch.allclose(net.head.weight.grad, twin.head.weight.grad)
