"""Gradient accumulation: one perturbation for the whole batch, or `--scope microbatch`: one for each micro-batch.

pip install sharpmin scikit-learn
python examples/accumulation.py
python examples/accumulation.py --scope microbatch
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import sharpmin as sm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--accumulate", type=int, default=4, help="micro-batches a step")
parser.add_argument("--scope", choices=["global", "microbatch"], default="global")
args = parser.parse_args()

torch.manual_seed(0)
images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
train, train_labels, test, test_labels = images[:1500], labels[:1500], images[1500:], labels[1500:]
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05, model=model, scope=args.scope)


def backward(x, y):
    """Backward of one micro-batch, whose loss is scaled by its share of the batch."""
    loss = nn.functional.cross_entropy(model(x), y) / args.accumulate
    loss.backward()
    return loss.detach()


def step_global(batches):
    """Each pass accumulates over all micro-batches: the same step as SAM on the whole batch."""
    opt.zero_grad()
    with opt.clean():
        loss = sum(backward(x, y) for x, y in batches)
    with opt.perturbed():
        for x, y in batches:
            backward(x, y)
    opt.step()
    return loss


def step_microbatch(batches):
    """Both passes on one micro-batch, then on the next: m-SAM, which needs one micro-batch in memory at a time."""
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
    rows = torch.randint(len(train), (args.accumulate, 16))
    loss = step([(train[own], train_labels[own]) for own in rows])

model.eval()
accuracy = (model(test).argmax(1) == test_labels).float().mean()
print(f"{args.steps} steps, scope {args.scope}, last loss {loss.item():.3f}, test accuracy {accuracy.item():.3f}")
