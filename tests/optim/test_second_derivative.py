"""A base that differentiates the gradient, as AdaHessian does: an error that says so, and nothing is broken by it."""

import pytest
import torch
from torch import nn

import sharpmin as sm


class Hessian(torch.optim.Optimizer):
    """Steps along g / |H z|, by a second backward pass through the gradient: what AdaHessian does in its `step`."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        grads = [p.grad for p in params]
        products = torch.autograd.grad(grads, params, grad_outputs=[torch.ones_like(p) for p in params])
        with torch.no_grad():
            for p, g, product in zip(params, grads, products, strict=True):
                p.sub_(self.param_groups[0]["lr"] * g / (product.abs() + 1))


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


X = torch.linspace(-1, 1, 12).double().reshape(4, 3)


def step(opt, net, door, graphs, some=False):
    """One step; `graphs` says of both passes whether they leave a graph, with `some` on the last parameter alone."""
    passes = iter(graphs)

    def backward():
        with torch.enable_grad():
            loss = (net(X) ** 2).mean()
        graph = next(passes)
        if graph and some:
            loss.backward(retain_graph=True)
            last = list(net.parameters())[-1]
            last.grad = None
            loss.backward(create_graph=True, inputs=[last])
        else:
            loss.backward(create_graph=graph)
        return loss

    def closure():
        opt.zero_grad()
        return backward()

    if door == "closure":
        opt.step(closure)
        return
    opt.zero_grad()
    backward()
    if door == "block":
        with opt.perturbed():
            backward()
        opt.step()
        return
    opt.perturb()
    backward()
    if door == "two-step":
        opt.second_step(zero_grad=True)
    else:
        opt.restore()
        opt.step()


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("graphs", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("door", ["block", "closure", "raw", "two-step"])
def test_a_graph_is_refused_and_the_next_step_works(door, graphs, some):
    net, other = model(), model()
    opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.1)
    fresh = sm.SAM(torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9), rho=0.1)
    was = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(sm.PhaseError, match=r"create_graph=True.*AdaHessian"):
        step(opt, net, door, graphs, some)
    assert all(torch.equal(p, w) for p, w in zip(net.parameters(), was, strict=True))
    for _ in range(2):
        step(opt, net, door, (False, False))
        step(fresh, other, door, (False, False))
    assert opt.last.stepped
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("door", ["block", "closure", "raw", "two-step"])
def test_without_a_graph_the_error_is_the_base_s_own(door):
    net = model()
    opt = sm.SAM(Hessian(net.parameters()), rho=0.1)
    was = [p.detach().clone() for p in net.parameters()]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="does not require grad"):
            step(opt, net, door, (False, False))
        assert all(torch.equal(p, w) for p, w in zip(net.parameters(), was, strict=True))
    assert not opt.last.stepped


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
@pytest.mark.parametrize("door", ["block", "closure"])
def test_rho_zero_is_the_bare_base(door):
    """Nothing moves, so the graph is whole."""
    net, other = model(), model()
    opt, bare = sm.SAM(Hessian(net.parameters()), rho=0.0), Hessian(other.parameters())
    for _ in range(3):
        step(opt, net, door, (True, True))
        bare.zero_grad()
        (other(X) ** 2).mean().backward(create_graph=True)
        bare.step()
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters(), strict=True))
