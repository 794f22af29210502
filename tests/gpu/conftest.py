"""What runs on a GPU: a test marked `gpu` needs one, and every other test of this folder runs on the CPU, too.

`device` is both, one after the other, so that a machine without a GPU runs the code of the tests as far as it can.
"""

from types import SimpleNamespace

import pytest
import torch
from tests.sam_by_hand import sam_gradient, step
from torch import nn

import sharpmin as sm

BATCHES, SIZE = 6, 32


def pytest_collection_modifyitems(items):
    """What torch says about a card (TensorFloat-32, NCCL) fails no test; what sharpmin says still does."""
    for item in items:
        if item.get_closest_marker("gpu"):
            for rule in ("error:SAM", "default"):  # the last one put in front is the weakest
                item.add_marker(pytest.mark.filterwarnings(rule), append=False)


def pytest_runtest_setup(item):
    """The one place where a test marked `gpu` is skipped."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Where the test runs."""
    return request.param


@pytest.fixture(autouse=True)
def repeatable():
    """Convolutions give the same bits twice, in float32 and not in TensorFloat-32."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def net(device, dtype=torch.float32, dropout=0.2):
    """Convolution, BatchNorm and dropout: everything that a second pass could disturb."""
    torch.manual_seed(3)
    front = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Tanh(), nn.Flatten()]
    return nn.Sequential(*front, nn.Linear(288, 32), nn.Tanh(), nn.Dropout(dropout), nn.Linear(32, 10)).to(device, dtype)


def batches(device, dtype=torch.float32):
    """Pictures with labels."""
    rng = torch.Generator().manual_seed(4)
    pictures = torch.randn(BATCHES, SIZE, 3, 8, 8, generator=rng, dtype=torch.float64).to(device, dtype)
    return list(zip(pictures, torch.randint(10, (BATCHES, SIZE), generator=rng).to(device), strict=True))


def loss_of(model, x, y):
    """Cross-entropy."""
    return nn.functional.cross_entropy(model(x), y)


def sam_step(opt, model, x, y):
    """One step by the block, with the same dropout mask in both passes."""
    opt.zero_grad()
    if opt.ascent.needs_clean:
        with opt.clean():
            loss_of(model, x, y).backward()
    with opt.perturbed():
        loss_of(model, x, y).backward()
    opt.step()


def run(model, base, data, rho=0.05, forward=None, **options):
    """`model` trained by sharpmin; `forward` is what is called in its place, such as its compiled form."""
    torch.manual_seed(5)
    opt = sm.SAM(base, rho=rho, model=model, **options)
    for x, y in data:
        sam_step(opt, forward or model, x, y)
    return opt


def run_by_hand(model, base, data, rho=0.05):
    """`model` trained by SAM in plain torch."""
    torch.manual_seed(5)
    for x, y in data:
        grads, _ = sam_gradient(model, [lambda x=x, y=y: loss_of(model, x, y)], rho)
        step(base, list(model.parameters()), grads)


@pytest.fixture
def training():
    """The functions above."""
    return SimpleNamespace(net=net, batches=batches, loss_of=loss_of, sam_step=sam_step, run=run, run_by_hand=run_by_hand)


@pytest.fixture
def same_bits():
    """Whether two modules, or two lists of tensors, agree in every bit."""

    def tensors(of):
        return list(of.state_dict().values()) if isinstance(of, nn.Module) else list(of)

    return lambda a, b: all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))
