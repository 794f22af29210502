"""A step on a GPU is the step of the formula: SAM in plain torch, the base optimizer at rho = 0, and closed forms."""

import pytest
import torch
from tests.sam_by_hand import apart
from torch import nn

import sharpmin as sm

BASES = {  # base, dtype, how far the ends may lie apart, as a share of the way
    "sgd": (lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9), torch.float32, 1e-4),
    "adamw": (lambda ps: torch.optim.AdamW(ps, lr=1e-3, fused=True), torch.float32, 1e-3),
    "double": (lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9), torch.float64, 1e-11),
    "double adam": (lambda ps: torch.optim.Adam(ps, lr=1e-3), torch.float64, 1e-9),
}


@pytest.mark.parametrize("name", BASES)
def test_a_run_by_hand(name, device, training):
    make, dtype, tolerance = BASES[name]
    mine, theirs, start = (training.net(device, dtype) for _ in range(3))
    data = training.batches(device, dtype)
    training.run(mine, make(mine.parameters()), data)
    training.run_by_hand(theirs, make(theirs.parameters()), data)
    assert apart(mine, theirs, start) < tolerance
    for own, other in zip(mine.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_rho_0_is_the_base_bit_for_bit(device, training, same_bits, fused):
    mine, theirs = training.net(device), training.net(device)
    data = training.batches(device)
    training.run(mine, torch.optim.AdamW(mine.parameters(), lr=1e-3, fused=fused), data, rho=0.0)
    base = torch.optim.AdamW(theirs.parameters(), lr=1e-3, fused=fused)
    torch.manual_seed(5)
    for x, y in data:
        base.zero_grad()
        training.loss_of(theirs, x, y).backward()
        base.step()
    assert same_bits(mine, theirs)


def test_weights_come_back_bit_for_bit(device, training, same_bits):
    model = training.net(device, dropout=0.0)
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, model=model)
    (x, y), *_ = training.batches(device)
    training.loss_of(model, x, y).backward()
    buffers, before = [b.clone() for b in model.buffers()], [p.detach().clone() for p in model.parameters()]
    places = [p.data_ptr() for p in model.parameters()]
    with opt.perturbed():
        assert not any(torch.equal(p, w) for p, w in zip(model.parameters(), before, strict=True))
        training.loss_of(model, x, y).backward()
    assert same_bits([*model.parameters(), *model.buffers()], [*before, *buffers])
    assert [p.data_ptr() for p in model.parameters()] == places


def test_a_norm_over_many_entries(device):
    """A float32 sum that stops growing would be 2 % short here."""
    count = 50_000_000 if device == "cuda" else 1_000_000
    w = nn.Parameter(torch.zeros(count, device=device))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=1.0)
    w.grad = torch.ones_like(w)
    with opt.perturbed():
        torch.testing.assert_close(w.detach(), torch.full_like(w, count**-0.5), rtol=1e-5, atol=0)
        w.grad = torch.full_like(w, 2.0)
    assert not w.any()
    opt.step()
    torch.testing.assert_close(w.detach(), torch.full_like(w, -0.2))
    assert opt.last.dual_norm == pytest.approx(count**0.5, rel=1e-5)
    assert opt.last.radius == pytest.approx(1.0, rel=1e-5)


class OnTwo(nn.Module):
    """The first layer on one device, the second one on the CPU."""

    def __init__(self, device):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8).double().to(device), nn.Linear(8, 2).double()

    def forward(self, x):
        return self.second(self.first(x.to(self.first.weight.device)).tanh().cpu())


def test_parameters_on_two_devices_share_one_norm(device):
    torch.manual_seed(6)
    model, x = OnTwo(device), torch.randn(4, 8, dtype=torch.float64)
    params = list(model.parameters())
    opt = sm.SAM(torch.optim.SGD(params, lr=0.1), rho=0.5)
    model(x).square().mean().backward()
    grads, before = [p.grad.clone().cpu() for p in params], [p.detach().clone().cpu() for p in params]
    norm = sum(g.square().sum().item() for g in grads) ** 0.5
    with opt.perturbed():
        for p, w, g in zip(params, before, grads, strict=True):
            torch.testing.assert_close(p.detach().cpu(), w + 0.5 * g / norm, rtol=1e-12, atol=1e-12)
        model(x).square().mean().backward()
    second = [p.grad.clone().cpu() for p in params]
    opt.step()
    for p, w, g in zip(params, before, second, strict=True):
        torch.testing.assert_close(p.detach().cpu(), w - 0.1 * g, rtol=1e-12, atol=1e-12)
    assert (opt.last.dual_norm, opt.last.radius) == pytest.approx((norm, 0.5), rel=1e-9)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own, as is the next one
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_model_is_one_graph(device, training):
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("inductor" if device == "cuda" else "aot_eager")
    mine, theirs, start = (training.net(device, dropout=0.0) for _ in range(3))
    data = training.batches(device)
    torch._dynamo.reset()
    try:
        base = torch.optim.SGD(mine.parameters(), lr=0.05)
        training.run(mine, base, data, forward=torch.compile(mine, backend=counter))
    finally:
        torch._dynamo.reset()
    training.run_by_hand(theirs, torch.optim.SGD(theirs.parameters(), lr=0.05), data)
    assert apart(mine, theirs, start) < 1e-3
    assert counter.frame_count == 1


@pytest.mark.gpu
def test_fsdp2_on_one_gpu(training):
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    mine, theirs = (training.net("cuda", torch.float64, dropout=0.0) for _ in range(2))
    data = training.batches("cuda", torch.float64)
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        fully_shard(mine)
        opt = sm.SAM(torch.optim.SGD(mine.parameters(), lr=0.05), rho=0.05)
        for x, y in data:
            opt.zero_grad()
            training.loss_of(mine, x, y).backward()
            with opt.perturbed():
                training.loss_of(mine, x, y).backward()
            opt.step()
        found = [p.full_tensor().detach() for p in mine.parameters()]
        norm = opt.last.dual_norm
    finally:
        dist.destroy_process_group()
    base = torch.optim.SGD(theirs.parameters(), lr=0.05)
    training.run_by_hand(theirs, base, data)
    for p, q in zip(found, theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q.detach(), rtol=1e-8, atol=1e-10)
    assert norm > 0
