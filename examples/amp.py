"""SAM in float16 with autocast, a GradScaler and clipping, on a GPU if there is one, else on the CPU.

pip install sharpmin scikit-learn
python examples/amp.py
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import sharpmin as sm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--scale", type=float, default=65536.0, help="the first loss scale; try 2e9 to see steps skipped")
args = parser.parse_args()

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
images, labels = (torch.tensor(array).to(device) for array in load_digits(return_X_y=True))
images = images.float() / 16
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)).to(device)

opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05, model=model)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, args.steps)
scaler = torch.amp.GradScaler(device, init_scale=args.scale)


def backward(x, y):
    """Forward under autocast, backward from the scaled loss."""
    with torch.autocast(device, torch.float16):
        loss = nn.functional.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    return loss


skipped = 0
for _ in range(args.steps):
    rows = torch.randint(len(images), (64,), device=device)
    x, y = images[rows], labels[rows]

    opt.zero_grad()
    with opt.clean():
        loss = backward(x, y)
    with opt.perturbed(scaler):
        backward(x, y)
    scaler.unscale_(opt)  # needed for clipping only; call it after the block
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(opt)
    scaler.update()

    if opt.last.stepped:
        scheduler.step()
    else:
        skipped += 1

print(f"{args.steps} steps, {skipped} of them skipped, scale {scaler.get_scale():g}, last loss {loss.item():.3f}")
