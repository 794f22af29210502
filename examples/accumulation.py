"""Gradient accumulation: one perturbation for the whole batch, or with `--scope microbatch` one for each micro-batch."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import sharpmin as sm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--accumulate", type=int, default=4)
parser.add_argument("--scope", choices=["global", "microbatch"], default="global")
args = parser.parse_args()

torch.manual_seed(0)
data, target = (torch.tensor(array) for array in load_digits(return_X_y=True))
data = data.float() / 16
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05, model=model, scope=args.scope)


def backward(x, y):
    """The gradient of one micro-batch, as its share of the batch."""
    loss = nn.functional.cross_entropy(model(x), y) / args.accumulate
    loss.backward()
    return loss.detach()


def step_global(batches):
    """Both passes see all micro-batches. This is SAM with the large batch."""
    opt.zero_grad()
    with opt.clean():
        loss = sum(backward(x, y) for x, y in batches)
    with opt.perturbed():
        for x, y in batches:
            backward(x, y)
    opt.step()
    return loss


def step_microbatch(batches):
    """Every micro-batch has both passes, one after the other; none has to be kept. This is m-SAM."""
    opt.zero_grad()
    loss = 0
    for x, y in batches:
        with opt.clean():
            loss += backward(x, y)
        with opt.perturbed():
            backward(x, y)
    opt.step()
    return loss


step = step_global if args.scope == "global" else step_microbatch
for _ in range(args.steps):
    rows = torch.randint(len(data), (args.accumulate, 16))
    loss = step([(data[own], target[own]) for own in rows])

print(f"{args.steps} steps of {args.accumulate} micro-batches, scope {args.scope}, last loss {loss.item():.3f}")
