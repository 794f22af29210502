"""A whole SAM step as one CUDA graph: both passes, the perturbation and its removal, and the step of the base optimizer.

pip install sharpmin scikit-learn
python examples/cuda_graph.py

Without a GPU, and with --eager, the same function is called instead of replayed.
"""

import argparse
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn

import sharpmin as sm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--eager", action="store_true", help="make no graph")
args = parser.parse_args()

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
images, labels = (torch.tensor(array).to(device) for array in load_digits(return_X_y=True))
model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10)).to(device)


@dataclass(frozen=True)
class OnDevice(sm.rho.RhoSchedule):
    radius: torch.Tensor  # a replay reads it anew; a number would stay what it was when the graph was made

    def __call__(self, info):
        return self.radius

    def active(self, step, lr):
        return True


base = torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.003, device=device), capturable=device == "cuda")
opt = sm.SAM(base, rho=OnDevice(torch.tensor(0.05, device=device)), model=model)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, args.steps)  # writes to the tensor lr, which a replay reads
x, y = torch.empty(64, 64, device=device), torch.empty(64, dtype=torch.long, device=device)  # every batch is copied here


def step():
    opt.zero_grad(set_to_none=True)  # in the graph, so that gradients are allocated in the graph's memory
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    with opt.perturbed():
        nn.functional.cross_entropy(model(x), y).backward()
    opt.step()
    return loss.detach()  # a loss with its autograd graph would keep that graph and its stream alive


graph = None
for t in range(args.steps):
    rows = torch.randint(len(images), (64,), device=device)
    x.copy_(images[rows] / 16)
    y.copy_(labels[rows])
    if device == "cpu" or args.eager:
        loss = step()
    elif t < 3:  # warm-up: creates the base optimizer's state; on a side stream, as capture of backward requires
        side, main = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            loss = step()
        main.wait_stream(side)
    else:
        if graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # recorded, not executed
                loss = step()
        graph.replay()
    scheduler.step()
    opt.rho.radius.mul_(0.999)

print("no GPU, or --eager: every step was called" if graph is None else f"{args.steps - 3} steps were replayed")
print(f"{args.steps} steps, last loss {loss.item():.3f}, radius {opt.last.radius:.4f}")
