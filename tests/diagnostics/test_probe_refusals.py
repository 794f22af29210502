"""What the probes refuse, with the fix in the message, and that a refusal leaves the model alone."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.tensor import distribute_tensor
from torch.nn.functional import mse_loss
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from sharpmin.core.errors import PhaseError
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
from sharpmin.diagnostics._sharpness.batches import _mark
from sharpmin.optim._geometry import L2
from sharpmin.optim._numeric.kinds import PIECE
from sharpmin.optim.sam import SAM


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def samples(n=10):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, generator=generator, dtype=torch.float64), torch.randn(
        n, 1, generator=generator, dtype=torch.float64
    )


def batches(sizes):
    x, y = samples(sum(sizes))
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


class Stream(IterableDataset):
    def __init__(self, once):
        self.items, self.once = batches([4, 6]), once

    def __iter__(self):
        yield from self.items
        if self.once:
            self.items = []


class Redrawn:
    """New numbers on every pass, from a generator that nobody can know of."""

    def __init__(self):
        self.generator_of_mine = torch.Generator().manual_seed(0)

    def __iter__(self):
        yield torch.randn(4, 3, generator=self.generator_of_mine, dtype=torch.float64), samples(4)[1]


class Flipped:
    """Samples mirrored at random: the same numbers in another order."""

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        x, y = samples(4)
        self.passes += 1
        yield x.flip(1) if self.passes == 2 else x, y


class Relabeled(Flipped):
    """One label of many samples changes."""

    group = 10_000

    def __iter__(self):
        self.passes += 1
        x, y = torch.full((70_000, 3), 1e3, dtype=torch.float64), torch.zeros(70_000, 1, dtype=torch.float64)
        y[69_999] = self.passes == 2
        yield x, y


class Rotated(Flipped):
    """Many samples whose long runs of numbers change places."""

    group = 2**13

    def __iter__(self):
        self.passes += 1
        x = torch.linspace(-1, 1, 3 * 2**16, dtype=torch.float64)
        yield x.roll(2**16 * (self.passes == 2)).view(-1, 3), torch.zeros(2**16, 1, dtype=torch.float64)


DATASET = TensorDataset(*samples())
WEIGHTED = WeightedRandomSampler([1.0] * 10, 10)
BAD_DATA = [
    (lambda: DataLoader(DATASET, 4, shuffle=True), ValueError, r"shuffles \(RandomSampler\).*shuffle=False"),
    (lambda: DataLoader(DATASET, 4, sampler=WEIGHTED), ValueError, r"shuffles \(WeightedRandomSampler\)"),
    (lambda: (b for b in batches([4])), TypeError, r"generator can be gone over once only.*list\(data\)"),
    (lambda: iter(batches([4])), TypeError, "list_iterator can be gone over once only"),
    (lambda: 3, TypeError, "data=int is not iterable"),
    (list, ValueError, "holds no samples"),
    (lambda: [{"x": 1}], TypeError, r"a batch is a dict of 1; batches must be pairs \(inputs, targets\)"),
    (lambda: [samples() + samples()], TypeError, "a batch is a tuple of 4"),
    (lambda: [(1.0, 2.0)], TypeError, "no tensor with a first dimension"),
    (Redrawn, ValueError, "a second pass over the data gave other batches"),
    (Flipped, ValueError, "a second pass over the data gave other batches"),
    (Relabeled, ValueError, "a second pass over the data gave other batches"),
    (Rotated, ValueError, "a second pass over the data gave other batches"),
    (lambda: DataLoader(Stream(once=True), None), ValueError, "a second pass over the data gave other batches"),
]
PROBES = {
    "worst_loss": lambda *a: worst_loss(*a, rho=0.1),
    "m_sharpness": lambda *a: m_sharpness(*a, m=getattr(a[-1], "group", 2), rho=0.1),
    "hessian_spectrum": hessian_spectrum,
    "hessian_trace": hessian_trace,
    "critical_sharpness": critical_sharpness,
    "layer_shares": lambda *a: layer_shares(*a, rho=0.1),
    "path_shares": lambda *a: path_shares(*a, rho=0.1),
    "loss_slice": lambda *a: loss_slice(*a, points=3),
}


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize(("data", "error", "text"), BAD_DATA)
def test_data_that_cannot_be_repeated_are_refused(probe, data, error, text):
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=rf"(?s)^{probe}: .*{text}"):
        PROBES[probe](model, mse_loss, data())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert model.training


def test_loaders_that_keep_their_order_are_welcome():
    want = worst_loss(net(), mse_loss, batches([4, 6]), rho=0.3)
    for data in (DataLoader(DATASET, 4), DataLoader(Stream(once=False), None), tuple(batches([4, 6]))):
        assert worst_loss(net(), mse_loss, data, rho=0.3).sharpness == pytest.approx(want.sharpness, rel=1e-9)


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"rho": -1.0}, ValueError, "rho=-1.0; rho must be a finite number >= 0"),
        ({"rho": "1"}, TypeError, "rho='1' is a str"),
        ({"geometry": "l2"}, TypeError, "geometry='l2'; give a Geometry"),
        ({"geometry": L2}, TypeError, "give a Geometry, such as sharpmin.L2()"),
        ({"steps": 0}, ValueError, "steps=0"),
        ({"restarts": 1.0}, TypeError, "restarts=1.0 is a float"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": None}, TypeError, "seed=None"),
        ({"m": 0}, ValueError, "m=0"),
        ({"m": 11}, ValueError, "m=11; data has 10 samples"),
    ],
)
def test_arguments_that_make_no_sense(keywords, error, text):
    probe = m_sharpness if "m" in keywords else worst_loss
    with pytest.raises(error, match=text.replace("(", r"\(").replace(")", r"\)")):
        probe(net(), mse_loss, batches([10]), **{"rho": 0.1} | keywords)


def cut(model):
    return nn.Sequential(model, _Cut())


class _Cut(nn.Module):
    def forward(self, x):
        return x.detach()


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        return checkpoint(self.inner, x.clone().requires_grad_(), use_reentrant=True)


@pytest.mark.parametrize(
    ("model", "loss", "error", "text"),
    [
        (lambda: mse_loss, mse_loss, TypeError, "model=function; give the torch.nn.Module"),
        (lambda: net().requires_grad_(False), mse_loss, ValueError, "no weight requires a gradient"),
        (lambda: nn.LazyLinear(1), mse_loss, ValueError, "without a shape yet"),
        (lambda: torch.jit.trace(net(), samples()[0]), mse_loss, TypeError, "TorchScript module cannot be restored"),
        (lambda: nn.Linear(3, 1, dtype=torch.complex128), mse_loss, TypeError, "weights are complex"),
        (lambda: cut(net()), mse_loss, ValueError, "does not depend on any trainable weight"),
        (Checkpointed, mse_loss, ValueError, r"reentrant checkpointing.*use_reentrant=False"),
        (net, lambda p, y: (p - y).square(), TypeError, r"a tensor of shape \(\d+, 1\); it must return the mean"),
        (net, lambda p, y: 1.0, TypeError, "returned a float"),
        (net, lambda p, y: (p - y).mean() * math.nan, ValueError, "the loss at the weights is nan|product is not finite"),
    ],
)
@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.filterwarnings("ignore:Lazy modules", "ignore:.*torch.jit:DeprecationWarning")
def test_models_and_losses_that_cannot_be_probed(probe, model, loss, error, text):
    with pytest.raises(error, match=f"^{probe}: .*({text})"):
        PROBES[probe](model(), loss, batches([10]))


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"k": 0}, ValueError, "k=0"),
        ({"k": 42}, ValueError, "k=42; the model has 41 trainable weights"),
        ({"which": "LM"}, ValueError, "which='LM'; which must be one of both, largest, smallest"),
        ({"tol": 0.0}, ValueError, "tol=0.0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"max_products": 0}, ValueError, "max_products=0"),
        ({"max_products": 1, "k": 3, "tol": 1e-14}, RuntimeError, "no largest eigenvalues to tol=1e-14.*larger tol"),
    ],
)
def test_spectra_that_make_no_sense(keywords, error, text):
    with pytest.raises(error, match=f"^hessian_spectrum: .*{text}"):
        hessian_spectrum(net(), mse_loss, batches([10]), **keywords)


def test_one_probe_has_no_error_bar():
    with pytest.raises(ValueError, match=r"probes=1; the error bar needs at least 2"):
        hessian_trace(net(), mse_loss, batches([10]), probes=1)


@pytest.mark.parametrize("probe", PROBES)
def test_perturbed_weights_are_not_probed(probe):
    model = net()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1)
    x, y = samples()
    mse_loss(model(x), y).backward()
    with opt.perturbed():
        with pytest.raises(PhaseError, match=rf"^{probe}\(\) came while a SAM holds some of these weights perturbed"):
            PROBES[probe](model, mse_loss, batches([10]))
        mse_loss(model(x), y).backward()
    PROBES[probe](model, mse_loss, batches([10]))


@pytest.fixture
def one_rank():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def sharded():
    model = net().float()
    mesh = torch.distributed.init_device_mesh("cpu", (1,))
    for layer in (model[0], model[2]):
        layer.weight = nn.Parameter(distribute_tensor(layer.weight.detach(), mesh))
    return model


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (lambda: nn.parallel.DistributedDataParallel(net()), "waits for the other ranks; give model.module"),
        (sharded, r"sharded \(DTensor\); gather them"),
    ],
)
@pytest.mark.parametrize("probe", PROBES)
def test_models_over_several_processes_are_refused(probe, model, text, one_rank):
    with pytest.raises(TypeError, match=f"^{probe}: .*{text}"):
        PROBES[probe](model(), mse_loss, batches([10]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.bfloat16])
def test_the_mark_of_a_tensor_is_a_sum_over_its_bits(dtype):
    """Each entry times its place in its piece, each piece times another power of a prime, modulo 2^64."""
    t = (torch.arange(5 * PIECE // 2) % 251).to(dtype)
    raw = t.numpy() if dtype != torch.bfloat16 else t.view(torch.int16).numpy()
    bits = raw.view(np.int32 if raw.itemsize % 4 == 0 else np.uint8)
    total, size = 0, PIECE * len(bits) // len(t)
    for at in range(0, len(bits), size):
        total = total * 1_000_003 + sum(place * int(b) for place, b in enumerate(bits[at : at + size], 1))
    assert int(_mark(t)) == (total + 2**63) % 2**64 - 2**63
