"""SAM under DistributedDataParallel: two processes, here with gloo on the CPU.

pip install sharpmin scikit-learn
torchrun --nproc-per-node 2 examples/ddp.py
torchrun --nproc-per-node 2 examples/ddp.py --scope rank

With scope "global" the perturbation follows the mean gradient of all ranks. With "rank" each rank uses its own gradient, which
saves one of the two reductions.
"""

import argparse
import time

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import sharpmin as sm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--scope", choices=["global", "rank"], default="global")
parser.add_argument("--save", help="write the trained weights to this file")
args = parser.parse_args()

dist.init_process_group("gloo")
torch.manual_seed(0)
images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
rows, test, test_labels = TensorDataset(images[:1500], labels[:1500]), images[1500:], labels[1500:]
sampler = DistributedSampler(rows)
loader = DataLoader(rows, batch_size=32, sampler=sampler, drop_last=True)

net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
model = DistributedDataParallel(net)
opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05, model=model, scope=args.scope)


def step(x, y):
    opt.zero_grad()
    with opt.clean():  # in scope "rank" DDP does not reduce this pass
        nn.functional.cross_entropy(model(x), y).backward()
    with opt.perturbed():
        nn.functional.cross_entropy(model(x), y).backward()
    opt.step()


done = epoch = 0
while done < args.steps:
    sampler.set_epoch(epoch)
    for x, y in loader:
        step(x, y)
        done += 1
        if done == args.steps:
            break
    epoch += 1

weights = nn.utils.parameters_to_vector(net.parameters()).detach()
everywhere = [torch.empty_like(weights) for _ in range(dist.get_world_size())]
dist.all_gather(everywhere, weights)
agree = all(torch.equal(weights, others) for others in everywhere)
accuracy = (net.eval()(test).argmax(1) == test_labels).float().mean()
if dist.get_rank() == 0:
    print(f"{args.steps} steps on {len(everywhere)} ranks, test accuracy {accuracy.item():.3f}, weights agree: {agree}")
    if args.save:
        torch.save(net.state_dict(), args.save)
time.sleep(0.5)  # gloo's threads still release tensors: torch 2.13 aborts if Python exits before they finish
dist.destroy_process_group()
