"""SAM in a loop of your own, on the handwritten digits of scikit-learn, with the two equivalent ways to write a step.

pip install sharpmin scikit-learn
python examples/plain_loop.py
python examples/plain_loop.py --closure
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import sharpmin as sm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--closure", action="store_true", help="hand both passes to opt.step as one closure")
args = parser.parse_args()

torch.manual_seed(0)
images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
train, train_labels, test, test_labels = images[:1500], labels[:1500], images[1500:], labels[1500:]

model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
loss_fn = nn.functional.cross_entropy

base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
opt = sm.SAM(base, rho=0.05, model=model)  # model=: BatchNorm's statistics are updated once per step
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, args.steps)


def step_in_blocks(x, y):
    """A step with both passes written out."""
    opt.zero_grad()
    with opt.clean():  # so that the second pass has the same dropout mask
        loss = loss_fn(model(x), y)
        loss.backward()
    with opt.perturbed():  # here the weights are w + e; after it they are w again
        loss_fn(model(x), y).backward()
    opt.step()
    return loss


def step_by_closure(x, y):
    """The same step with a closure, which opt.step calls once at w and once at w + e."""

    def closure():
        opt.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        return loss

    return opt.step(closure)


step = step_by_closure if args.closure else step_in_blocks
for _ in range(args.steps):
    rows = torch.randint(len(train), (64,))
    loss = step(train[rows], train_labels[rows])
    scheduler.step()

model.eval()
accuracy = (model(test).argmax(1) == test_labels).float().mean()
print(f"{args.steps} steps, last loss {loss.item():.3f}, test accuracy {accuracy.item():.3f}, radius {opt.last.radius:.4f}")
