"""SAM under DistributedDataParallel, here with gloo on the CPU:

    torchrun --nproc-per-node 2 examples/ddp.py --scope global

Scope "global" climbs along the gradient of all ranks, "rank" along a rank's own, which saves the first of the two reductions.
"""

import argparse

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import sharpmin as sm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--scope", choices=["global", "rank"], default="global")
args = parser.parse_args()

dist.init_process_group("gloo")
torch.manual_seed(0)
data, target = (torch.tensor(array) for array in load_digits(return_X_y=True))
rows = TensorDataset(data.float() / 16, target)
sampler = DistributedSampler(rows)
loader = DataLoader(rows, 32, sampler=sampler, drop_last=True)
net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))

model = DistributedDataParallel(net)
opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05, model=model, scope=args.scope)


def batches(steps):
    """As many batches as asked for, each epoch in an order of its own."""
    epoch = 0
    while True:
        sampler.set_epoch(epoch)
        for batch in loader:
            if steps == 0:
                return
            steps -= 1
            yield batch
        epoch += 1


for x, y in batches(args.steps):
    opt.zero_grad()
    with opt.clean():  # in scope "rank" it keeps DDP from reducing
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
    with opt.perturbed():
        nn.functional.cross_entropy(model(x), y).backward()
    opt.step()

total = torch.stack([p.detach().sum() for p in model.parameters()]).sum()
everywhere = [torch.zeros_like(total) for _ in range(dist.get_world_size())]
dist.all_gather(everywhere, total)
if dist.get_rank() == 0:
    same = all(torch.equal(total, other) for other in everywhere)
    print(f"{args.steps} steps on {dist.get_world_size()} ranks, weights equal: {same}, last loss {loss.item():.3f}")
dist.barrier()  # no destroy_process_group(): after it, gloo in torch 2.13 aborts one exit in ten
