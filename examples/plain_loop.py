"""SAM in a loop of your own, on scikit-learn's digits. Both doors are here: two blocks, or a closure (`--closure`)."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import sharpmin as sm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--closure", action="store_true", help="hand opt.step a closure instead of writing both passes")
args = parser.parse_args()

torch.manual_seed(0)
data, target = (torch.tensor(array) for array in load_digits(return_X_y=True))
data = data.float() / 16
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))

base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
opt = sm.SAM(base, rho=0.05, model=model)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, args.steps)

for _ in range(args.steps):
    rows = torch.randint(len(data), (64,))
    x, y = data[rows], target[rows]

    def gradient(x=x, y=y):
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    def closure():
        opt.zero_grad()
        return gradient()

    if args.closure:
        loss = opt.step(closure)
    else:
        opt.zero_grad()
        with opt.clean():
            loss = gradient()
        with opt.perturbed():
            gradient()
        opt.step()
    scheduler.step()

model.eval()
right = (model(data).argmax(1) == target).float().mean()
print(f"{args.steps} steps, last loss {loss.item():.3f}, accuracy on the training set {right.item():.3f}")
