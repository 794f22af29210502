"""A whole SAM step as one CUDA graph: both passes, the way to w + e and back, and the step of the base optimizer.

pip install sharpmin scikit-learn
python examples/cuda_graph.py
python examples/cuda_graph.py --eager

On a machine without a GPU, and with --eager, the same function is called instead of replayed.
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
images = images.float() / 16
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10)).to(device)


@dataclass(frozen=True)
class OnDevice(sm.rho.RhoSchedule):
    """A radius that a replay reads anew; a number would be what it was when the graph was made."""

    radius: torch.Tensor

    def __call__(self, info):
        return self.radius

    def active(self, step, lr):
        return True


rho = torch.tensor(0.05, device=device)
base = torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.003, device=device), capturable=device == "cuda")
opt = sm.SAM(base, rho=OnDevice(rho), model=model)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, args.steps)  # it fills the tensor lr, which a replay reads anew
x, y = torch.empty(64, 64, device=device), torch.empty(64, dtype=torch.long, device=device)  # where every batch is put


def step():
    opt.zero_grad(set_to_none=True)  # in the graph: the gradients are then made anew, in the graph's own memory
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    with opt.perturbed():
        nn.functional.cross_entropy(model(x), y).backward()
    opt.step()
    return loss.detach()  # a loss with its history would keep that alive, and with it the stream that it ran on


def on_a_side_stream(function):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        result = function()
    torch.cuda.current_stream().wait_stream(side)
    return result


graph = None
for t in range(args.steps):
    rows = torch.randint(len(images), (64,), device=device)
    x.copy_(images[rows])
    y.copy_(labels[rows])
    if device == "cpu" or args.eager:
        loss = step()
    elif t < 3:  # makes the state of the base optimizer, and whatever else the first steps make
        loss = on_a_side_stream(step)
    else:
        if graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # nothing runs in here: it is written down
                loss = step()
        graph.replay()
    scheduler.step()
    rho.mul_(0.999)

print(f"{max(0, args.steps - 3)} steps replayed" if graph else "no GPU, or --eager: every step was called")
print(f"{args.steps} steps, last loss {loss.item():.3f}, radius {opt.last.radius:.4f}")
