"""Does rho hold this run up? Watch a run, read the diagnosis, and keep the log for `sharpmin diagnose`.

pip install 'sharpmin[cli]' scikit-learn
python examples/diagnose_a_run.py --log run.jsonl
sharpmin diagnose run.jsonl --html run.html
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sharpmin as sm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=1160)
parser.add_argument("--rho", type=float, default=0.5)
parser.add_argument("--log", help="write the numbers of the run to this file, as JSON lines")
args = parser.parse_args()

torch.manual_seed(0)
images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
noisy = torch.where(torch.rand(len(labels)) < 0.3, torch.randint(10, labels.shape), labels)  # 30 % label noise
loader = DataLoader(TensorDataset(images.float() / 16, noisy), batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=args.rho)

probe = sm.watch(opt, to=args.log or (), epoch=len(loader), reshuffled=True)


def step(x, y):
    def closure():
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return opt.step(closure)


done = 0
while done < args.steps:
    for x, y in loader:
        step(x, y)
        done += 1
        if done == args.steps // 4:
            opt.param_groups[0]["lr"] = 0.01
        if done == args.steps:
            break

probe.close()
print(sm.diagnose(probe))
