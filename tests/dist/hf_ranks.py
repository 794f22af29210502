"""Runs of the Hugging Face Trainer and of Accelerate on one of two ranks, or in one process."""

import torch
from accelerate import Accelerator
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


def trained(case, folder, file=None, **changes):
    """Two steps of four micro-batches in all; the weights, how often gradients were reduced, and what the watch saw."""
    kind, options, more = CASES[case]
    settings = {"save_strategy": "no", "optim": "sgd"}
    args = arguments(folder, **{**settings, **more, **changes})
    trainer = Counting(net(kind), args, train_dataset=data("net" if kind == "net" else "tied", 32), **options)
    trainer.create_optimizer()
    probe = sm.watch(trainer.sam, to=file, every=1) if file else None
    trainer.train()
    rows = list(probe.log.steps) if probe else []
    return {k: v.clone() for k, v in trainer.model.state_dict().items()}, len(trainer.counted or []), rows


def golden(scope, file):
    """The golden step in an Accelerate loop, f1 on rank 0 and f2 on rank 1."""
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(Parabola())
    opt = accelerator.prepare(sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, scope=scope, model=model))
    backward = SAMBackward(accelerator, opt, model, lambda model, batch: model(batch))
    refused = ""
    try:
        probe = sm.watch(backward.sam, to=file)
    except ValueError as error:
        probe, refused = None, str(error)
    backward(BATCHES[accelerator.process_index])
    opt.step()
    return next(model.parameters()).item(), list(probe.log.steps) if probe else refused
