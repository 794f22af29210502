"""The weights keep their addresses: flat buffers, shared memory, LSTM weights and tied weights stay consistent."""

import warnings

import pytest
import torch
from torch import nn

import sharpmin as sm


def steps(opt, loss, door, n=3):
    def backward():
        value = loss()
        value.backward()
        return value

    for _ in range(n):
        door(opt, backward)


def test_addresses_and_objects_never_change(training, door):
    f = training()
    opt = sm.SAM(torch.optim.Adam(f.net.parameters(), lr=0.1), rho=0.5)
    params = list(f.net.parameters())
    addresses = [p.data_ptr() for p in params]
    inside = []

    def backward():
        inside.append([p.data_ptr() for p in f.net.parameters()])
        return f()

    for _ in range(3):
        door(opt, backward)
    assert inside == [addresses] * 6
    assert [p.data_ptr() for p in params] == addresses
    assert all(p is q for p, q in zip(f.net.parameters(), params, strict=True))


def test_views_into_a_flat_buffer(door):
    """The parameters are slices of one buffer, which always shows what they show."""
    flat = torch.tensor([3.0, 1.0], dtype=torch.float64)
    a, b = nn.Parameter(flat[:1]), nn.Parameter(flat[1:])
    opt = sm.SAM(torch.optim.SGD([a, b], lr=0.1), rho=0.5)
    seen = []

    def loss():
        seen.append(flat.tolist())
        return 0.5 * (a.square() + 4 * b.square()).sum()

    steps(opt, loss, door, n=1)
    assert seen == [[3.0, 1.0], pytest.approx([3.3, 1.4], abs=1e-12)]
    assert flat.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)


@pytest.mark.parametrize("layout", ["transposed", "channels_last", "strided"])
def test_layouts(door, layout):
    """Restored exactly, with the strides they had, and equal to the contiguous run."""
    values = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    made = {
        "transposed": lambda: values.clone().transpose(0, 3).contiguous().transpose(0, 3),
        "channels_last": lambda: values.clone(memory_format=torch.channels_last),
        "strided": lambda: torch.zeros(4, 3, 4, 10, dtype=torch.float64)[::2, :, :, ::2].copy_(values),
    }
    p, q = nn.Parameter(made[layout]()), nn.Parameter(values.clone())
    strides = p.stride()
    for w in (p, q):
        steps(sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.5), lambda w=w: (w**2).sum(), door)
    assert p.stride() == strides
    assert torch.allclose(p, q, rtol=0, atol=1e-12)


def test_shared_memory(training, door):
    f = training()
    f.net.share_memory()
    opt = sm.SAM(torch.optim.SGD(f.net.parameters(), lr=0.1), rho=0.5)
    for _ in range(2):
        door(opt, f)
    assert all(p.is_shared() for p in f.net.parameters())


def test_lstm_flat_weights(door):
    """The module's flat list holds the very parameters, and the output follows them."""
    lstm = nn.LSTM(3, 4).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    opt = sm.SAM(torch.optim.SGD(lstm.parameters(), lr=0.1), rho=0.5)
    addresses = [w.data_ptr() for w in lstm._flat_weights]
    steps(opt, lambda: lstm(x)[0].square().sum(), door)
    fresh = nn.LSTM(3, 4).double()
    fresh.load_state_dict(lstm.state_dict())
    assert [w.data_ptr() for w in lstm._flat_weights] == addresses
    assert all(w is p for w, p in zip(lstm._flat_weights, lstm.parameters(), strict=True))
    assert torch.equal(lstm(x)[0], fresh(x)[0])


def test_tied_modules(door):
    """A weight used twice is one parameter: perturbed once, by its summed gradient."""
    first, second = nn.Linear(1, 1, bias=False).double(), nn.Linear(1, 1, bias=False).double()
    second.weight = first.weight
    with torch.no_grad():
        first.weight.fill_(2.0)
    net, seen = nn.Sequential(first, second), []
    opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.5)

    def loss():
        seen.append(first.weight.item())
        return net(torch.ones(1, 1, dtype=torch.float64)).sum()

    steps(opt, loss, door, n=1)
    assert seen == [2.0, 2.5]
    assert first.weight.item() == pytest.approx(1.5, abs=1e-12)


def test_a_parameter_listed_twice_is_perturbed_once(quadratic, path):
    """torch warns, and lets the base step twice; the perturbation still has length rho."""
    f = quadratic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = torch.optim.SGD([f.w, f.w], lr=0.1)
    opt = sm.SAM(base, rho=0.5)
    f()
    with opt.perturbed():
        assert f.w.tolist() == pytest.approx([3.3, 1.4], abs=1e-12)
    assert f.w.tolist() == [3.0, 1.0]
    assert opt.last.dual_norm == 5.0


def test_two_parameters_on_one_storage_come_back(bits):
    """Both moves add up on the way there; the way back is exact all the same."""
    flat = torch.randn(3)
    a, b = nn.Parameter(flat), nn.Parameter(flat[1:])
    was = bits(flat)
    a.grad, b.grad = torch.randn(3), torch.randn(2)
    opt = sm.SAM(torch.optim.SGD([a, b], lr=0.0), rho=0.5)
    with opt.perturbed():
        assert bits(flat) != was
    assert bits(flat) == was


@pytest.mark.parametrize(("before", "after"), [(torch.float32, torch.float64), (torch.float64, torch.float32)])
def test_weights_of_another_dtype_than_on_the_step_before_come_back(door, path, before, after, bits):
    """`p.data = p.data.to(...)` keeps the parameter; its copy follows, and at lr 0 the weights are what they were."""
    w, other = (nn.Parameter(torch.rand(50, dtype=before)) for _ in range(2))
    opt = sm.SAM(torch.optim.SGD([w, other], lr=0.0), rho=0.1)
    steps(opt, lambda: ((w - 2) ** 2).sum() + (other**3).sum(), door, 1)
    w.grad = other.grad = None
    w.data = w.data.to(after) / 3
    was, inside = bits([w, other]), []

    def loss():
        inside.append(bits(w))
        return ((w - 2) ** 2).sum() + (other**3).sum()

    steps(opt, loss, door, 2)
    assert bits([w, other]) == was
    assert inside[0] == inside[2] != inside[1] == inside[3]
