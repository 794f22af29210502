"""SAM in an Accelerate loop, with gradient accumulation and clipping. `SAMBackward` replaces `accelerator.backward`.

pip install 'sharpmin[accelerate]' scikit-learn
python examples/accelerate_loop.py
accelerate launch examples/accelerate_loop.py    # on several devices, unchanged
"""

import argparse
import itertools

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sharpmin as sm
from sharpmin.integrations import SAMBackward

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200)
args = parser.parse_args()

torch.manual_seed(0)
images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
loader = DataLoader(TensorDataset(images[:1500], labels[:1500]), batch_size=32, shuffle=True, drop_last=True)
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05, model=model)

accelerator = Accelerator(gradient_accumulation_steps=2)
model, prepared, loader = accelerator.prepare(model, opt, loader)


def loss_fn(model, batch):
    """The loss of one micro-batch; it is called twice for each."""
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


backward = SAMBackward(accelerator, prepared, model, loss_fn)

epochs = itertools.chain.from_iterable(itertools.repeat(loader))
for batch in epochs:
    with accelerator.accumulate(model):
        loss = backward(batch)  # was: loss = loss_fn(model, batch); accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
        prepared.step()
        prepared.zero_grad()
    if opt.param_groups[0]["sharpmin_step"] == args.steps:
        break

model.eval()
predicted = model(images[1500:].to(accelerator.device)).argmax(1).cpu()
accuracy = (predicted == labels[1500:]).float().mean()
accelerator.print(f"{args.steps} steps, test accuracy {accuracy.item():.3f}, radius {opt.last.radius:.4f}")
