"""The Hugging Face Trainer and an Accelerate loop on two gloo ranks equal one process with all the data."""

import os
import socket

import pytest
import torch
from accelerate import Accelerator
from tests.dist.ranks import on_ranks
from tests.integrations.accelerate_case import BATCHES, Parabola
from tests.integrations.hf import MODELS, Net, SAMTrainer, arguments, data
from torch import nn

import sharpmin as sm
from sharpmin.integrations import SAMBackward


class Plain(nn.Module):
    """Without BatchNorm, whose statistics are a rank's own."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))

    forward = Net.forward


def net(kind):
    torch.manual_seed(0)
    if kind == "net":
        return Plain()
    model = MODELS["tied"]()
    model.config.attention_dropout = 0.0  # ranks draw masks of their own
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.0
    return model


def variables(rank, port, world):
    """What a launcher sets, so that the Trainer knows of its rank."""
    os.environ["ACCELERATE_USE_CPU"] = "true"
    found = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({k: str(v) for k, v in found.items()}, MASTER_ADDR="127.0.0.1")


def reductions(model):
    """Counts the all-reduces of a DDP model's gradients."""
    counted = []

    def hook(state, bucket):
        counted.append(1)
        total = bucket.buffer().div_(torch.distributed.get_world_size())
        return torch.distributed.all_reduce(total, async_op=True).get_future().then(lambda done: done.value()[0])

    model.register_comm_hook(None, hook)
    return counted


class Counting(SAMTrainer):
    """Counts the reductions under DDP."""

    counted: list[int] | None = None

    def training_step(self, model, *args, **kwargs):
        if self.counted is None and hasattr(model, "register_comm_hook"):
            self.counted = reductions(model)
        return super().training_step(model, *args, **kwargs)


CASES = {
    "global": ("net", {"sam": {"rho": 0.2}}, {}),
    "clipped": ("dry", {"sam": {"rho": 0.2}}, {"max_grad_norm": 0.3}),
    "microbatch": ("net", {"sam": {"rho": 0.2, "scope": "microbatch"}}, {}),
    "one pass": ("net", {"sam": {"rho": 0.2, "ascent": sm.Momentum()}}, {"optim": "adamw_torch", "learning_rate": 1e-3}),
}


def trained(case, folder, **changes):
    """Two steps of four micro-batches in all; the weights and how often gradients were reduced."""
    kind, options, more = CASES[case]
    settings = {"save_strategy": "no", "optim": "sgd"}
    args = arguments(folder, **{**settings, **more, **changes})
    trainer = Counting(net(kind), args, train_dataset=data("net" if kind == "net" else "tied", 32), **options)
    trainer.train()
    return {k: v.clone() for k, v in trainer.model.state_dict().items()}, len(trainer.counted or [])


def golden(scope):
    """The golden step in an Accelerate loop, f1 on rank 0 and f2 on rank 1."""
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(Parabola())
    opt = accelerator.prepare(sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, scope=scope, model=model))
    SAMBackward(accelerator, opt, model, lambda model, batch: model(batch))(BATCHES[accelerator.process_index])
    opt.step()
    return next(model.parameters()).item()


def work(rank, port, folder):
    variables(rank, port, 2)
    runs = {case: trained(case, folder, ddp_backend="gloo", ddp_find_unused_parameters=False) for case in CASES}
    return runs, {scope: golden(scope) for scope in ("global", "rank")}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """All runs on two ranks, in one pair of processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return on_ranks(work, 2, port, str(tmp_path_factory.mktemp("ranks")))


@pytest.mark.parametrize(("case", "reductions"), {"global": 4, "clipped": 4, "microbatch": 2, "one pass": 2}.items())
def test_two_ranks_equal_one_process(ranks, tmp_path, case, reductions):
    (first, reduced), (second, _) = (rank[0][case] for rank in ranks)
    assert reduced == reductions
    alone, _ = trained(case, str(tmp_path), gradient_accumulation_steps=4)
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        assert (first[name] - value).abs().max() <= 1e-6, name


@pytest.mark.parametrize(("scope", "end"), [("global", 0.38), ("rank", 0.41)])
def test_the_golden_step_in_accelerate(ranks, scope, end):
    assert [rank[1][scope] for rank in ranks] == [pytest.approx(end, abs=1e-12)] * 2
