"""`SAMBackward` in a loop of Accelerate, which has no types itself."""

from typing import reveal_type

import torch
from accelerate import Accelerator  # E: import-untyped

import sharpmin as sm
from sharpmin.integrations import SAMBackward

Batch = dict[str, torch.Tensor]


def loss_fn(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    loss: torch.Tensor = model(batch["x"]).mean()
    return loss


accelerator, net = Accelerator(), torch.nn.Linear(1, 1)
loader: list[Batch] = []
model, optimizer = accelerator.prepare(net, sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1), model=net))
backward = SAMBackward(accelerator, optimizer, model, loss_fn)
for batch in loader:
    with accelerator.accumulate(model):
        reveal_type(backward(batch))  # R: torch._tensor.Tensor
        optimizer.step()
        optimizer.zero_grad()
reveal_type(backward.sam.last.radius)  # R: float
reveal_type(backward.second_pass)  # R: bool
SAMBackward(accelerator, optimizer, model)  # E: call-arg
SAMBackward(accelerator, optimizer, model, lambda batch: batch)  # E: arg-type misc
