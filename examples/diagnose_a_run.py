"""Is rho what holds this run up? Watch a run, read the diagnosis, and log it for `sharpmin diagnose`."""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import sharpmin as sm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=580)
parser.add_argument("--rho", type=float, default=0.5)
parser.add_argument("--log", type=Path, help="write the numbers of every step to this file, as JSON lines")
args = parser.parse_args()

torch.manual_seed(0)
data, target = (torch.tensor(array) for array in load_digits(return_X_y=True))
noisy = torch.where(torch.rand(len(target)) < 0.3, torch.randint(0, 10, target.shape), target)
rows = torch.utils.data.TensorDataset(data.float() / 16, noisy)
loader = torch.utils.data.DataLoader(rows, 64, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=args.rho)

probe = sm.watch(opt, to=args.log or (), epoch=len(loader), reshuffled=True)

step = 0
while step < args.steps:
    for x, y in loader:

        def closure(x=x, y=y):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        opt.step(closure)
        step += 1
        if step == args.steps // 2:
            opt.param_groups[0]["lr"] = 0.01
        if step == args.steps:
            break
probe.close()

try:
    print(sm.diagnose(probe))
except ValueError as short:  # a run has to stand still for a few epochs before anything can be said
    print(short)
