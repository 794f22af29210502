"""SAM with weights sharded by FSDP2 (`fully_shard`): two processes, here with gloo on the CPU.

pip install sharpmin scikit-learn
torchrun --nproc-per-node 2 examples/fsdp2.py

SAM needs no setting for it: the norm is over the shards of all ranks, and each rank perturbs its own shards.
"""

import argparse
import time

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import sharpmin as sm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--save", help="write the whole trained weights to this file")
args = parser.parse_args()

dist.init_process_group("gloo")
torch.manual_seed(0)
images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
rows, test, test_labels = TensorDataset(images[:1500], labels[:1500]), images[1500:], labels[1500:]
sampler = DistributedSampler(rows)
loader = DataLoader(rows, batch_size=32, sampler=sampler, drop_last=True)


def network():
    return nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 10))


model = network()
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
for layer in model:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
opt = sm.SAM(torch.optim.AdamW(model.parameters(), lr=1e-3), rho=0.05)  # after fully_shard, as for any optimizer


def step(x, y):
    opt.zero_grad()
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

norms = [None] * dist.get_world_size()
dist.all_gather_object(norms, opt.last.dual_norm)
same = len(set(norms)) == 1  # over all shards, the same on every rank
net = network()
net.load_state_dict(get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)))  # full, on every rank
accuracy = (net(test).argmax(1) == test_labels).float().mean()
shard, whole = sum(p.to_local().numel() for p in model.parameters()), sum(p.numel() for p in net.parameters())
if dist.get_rank() == 0:
    print(f"{args.steps} steps, {shard} of {whole} weights here, test accuracy {accuracy.item():.3f}, same norm: {same}")
    if args.save:
        torch.save(net.state_dict(), args.save)
time.sleep(0.5)  # gloo's threads still release tensors: torch 2.13 aborts if Python exits before they finish
dist.destroy_process_group()
