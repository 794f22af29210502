"""The probes leave everything bit for bit as it was, also when they fail, and no memory behind."""

import gc
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from sharpmin.diagnostics import (
    critical_sharpness,
    hessian_spectrum,
    hessian_trace,
    layer_shares,
    loss_slice,
    m_sharpness,
    path_shares,
    worst_loss,
)

PROBES = {
    "worst_loss": lambda *a: worst_loss(*a, rho=0.1, steps=2, restarts=2),
    "m_sharpness": lambda *a: m_sharpness(*a, m=3, rho=0.1),
    "hessian_spectrum": lambda *a: hessian_spectrum(*a, tol=0.2, which="largest"),
    "hessian_trace": lambda *a: hessian_trace(*a, probes=2),
    "critical_sharpness": critical_sharpness,
    "layer_shares": lambda *a: layer_shares(*a, rho=0.1),
    "path_shares": lambda *a: path_shares(*a, rho=0.1),
    "loss_slice": lambda *a: loss_slice(*a, points=3),
}


class Restless(nn.Module):
    """Batch statistics, dropout, a buffer that is replaced, a frozen weight, a module and attributes that forward writes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.drop, self.last = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)
        self.old = torch.nn.utils.spectral_norm(nn.Linear(2, 2))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("graph", torch.eye(2).to_sparse())
        self.scale, self.calls = torch.ones(1), 0
        self.last.bias.requires_grad_(False)

    def forward(self, x):
        self.calls += 1
        self.seen = self.seen + 1
        self.scale.mul_(1.5)
        self.last.bias.data.mul_(0.9)
        self.made = nn.Identity()
        self.scratch = self.drop(torch.tanh(self.norm(self.first(x))))
        random.random()
        np.random.rand()
        return self.old(self.last(self.scratch)) + 0 * torch.rand(())


def trained():
    """A model in the middle of training: modes mixed, gradients present on some weights."""
    model = Restless()
    cross_entropy(model(torch.randn(6, 3)), torch.arange(6) % 2).backward()
    model.first.bias.grad = None
    model.last.bias.grad = torch.ones(2)
    model.norm.eval()
    model.drop.train()
    return model


def data():
    return [(torch.randn(n, 3, generator=torch.Generator().manual_seed(n)), torch.arange(n) % 2) for n in (4, 3)]


def bits(t):
    return None if t is None else t.detach().to_dense().numpy().tobytes()


def picture(model):
    """Everything that is to stay."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers()), "old": model.old.weight}
    return {
        "values": {k: (bits(t), id(t), None if t.is_sparse else t.data_ptr(), t._version) for k, t in tensors.items()},
        "grads": {k: (bits(p.grad), id(p.grad), p.requires_grad) for k, p in model.named_parameters()},
        "modes": {k: (m.training, id(m)) for k, m in model.named_modules()},
        "names": {k: list(vars(m)) for k, m in model.named_modules()},
        "attributes": (bits(model.scale), id(model.scale), model.calls, id(model.scratch)),
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": (np.random.get_state()[1].tolist(), np.random.get_state()[2]),
        "settings": (
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.cuda.flash_sdp_enabled(),
            torch.is_grad_enabled(),
        ),
    }


@pytest.mark.parametrize("probe", PROBES)
def test_nothing_moves(probe):
    model = trained()
    before = picture(model)
    PROBES[probe](model, cross_entropy, data())
    assert picture(model) == before


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("call", [1, 2, 4])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_nothing_moves_when_the_loss_fails(probe, call, error):
    calls = []

    def loss(p, y):
        calls.append(p)
        if len(calls) == call:
            raise error
        return cross_entropy(p, y)

    model = trained()
    before = picture(model)
    with pytest.raises(error):
        PROBES[probe](model, loss, data())
    calls.clear()
    assert picture(model) == before


@pytest.mark.parametrize("probe", PROBES)
def test_a_pending_backward_and_a_pending_mode_go_on(probe):
    """Between forward and backward, without a change to the gradients; under no_grad and inference_mode too."""

    def gradients(look):
        torch.manual_seed(0)
        model = Restless().train()
        loss = cross_entropy(model(data()[0][0]), data()[0][1])
        if look:
            with torch.no_grad():
                PROBES[probe](model, cross_entropy, data())
        loss.backward()
        return [bits(p.grad) for p in model.parameters()]

    assert gradients(look=True) == gradients(look=False)
    plain = nn.Linear(3, 2)
    with torch.inference_mode():
        inside = PROBES[probe](plain, cross_entropy, data())
    assert inside == PROBES[probe](plain, cross_entropy, data())


@pytest.mark.parametrize("probe", PROBES)
def test_the_generator_of_a_loader_stays(probe):
    generator = torch.Generator().manual_seed(3)
    x, y = data()[0]
    loader = DataLoader(TensorDataset(x, y), 2, generator=generator)
    before = generator.get_state()
    PROBES[probe](trained(), cross_entropy, loader)
    assert torch.equal(generator.get_state(), before)


def test_a_loss_that_runs_backward_itself_adds_to_no_gradient():
    def loss(p, y):
        p.square().sum().backward(retain_graph=True)
        return cross_entropy(p, y)

    model = trained()
    before = picture(model)
    worst_loss(model, loss, data(), rho=0.1)
    assert picture(model) == before


def test_a_model_that_changes_its_weights_in_train_is_not_asked_to():
    class Merging(nn.Linear):
        def train(self, mode=True):
            raise AssertionError("train() was called")

    worst_loss(Merging(3, 2), cross_entropy, data(), rho=0.1)


def test_tied_weights_move_once_and_stay_tied():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    found = worst_loss(model, cross_entropy, data(), rho=0.1, steps=1, restarts=1)
    assert found.radius == pytest.approx(0.1, rel=1e-5)
    assert model[1].weight is model[0].weight


def live():
    """How many tensors Python knows of."""
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())


def resident():
    """Megabytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@pytest.mark.parametrize("probe", PROBES)
def test_memory_is_flat_over_50_calls(probe):
    """No tensor more after 50 calls, without help from the cycle collector, and no memory of a size that counts."""
    width = 1_000 if probe == "hessian_spectrum" else 20_000  # scipy's own arithmetic takes its time
    model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))
    batches = data()
    PROBES[probe](model, cross_entropy, batches)
    gc.collect()
    gc.disable()
    try:
        PROBES[probe](model, cross_entropy, batches)
        tensors, memory = live(), resident()
        for _ in range(50):
            PROBES[probe](model, cross_entropy, batches)
        assert live() == tensors
        assert resident() - memory < 20
    finally:
        gc.enable()
