"""SAM in float16 under autocast and a GradScaler, with clipping. Runs on a GPU if there is one, else on the CPU."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import sharpmin as sm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
data, target = (torch.tensor(array).to(device) for array in load_digits(return_X_y=True))
data = data.float() / 16
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10)).to(device)

opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05, model=model)
scaler = torch.amp.GradScaler(device)


def backward(x, y):
    """Forward under autocast, backward from the scaled loss."""
    with torch.autocast(device, torch.float16):
        loss = nn.functional.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    return loss


skipped = 0
for _ in range(args.steps):
    rows = torch.randint(len(data), (64,), device=device)
    x, y = data[rows], target[rows]

    opt.zero_grad()
    with opt.clean():
        loss = backward(x, y)
    with opt.perturbed(scaler):
        backward(x, y)
    scaler.unscale_(opt)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(opt)
    scaler.update()

    skipped += not opt.last.stepped

print(f"{args.steps} steps of which {skipped} skipped, scale {scaler.get_scale():g}, last loss {loss.item():.3f}")
