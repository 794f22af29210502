"""SAM with weights sharded by FSDP2 (`fully_shard`): two processes, here with gloo on the CPU.

pip install sharpmin scikit-learn
torchrun --nproc-per-node 2 examples/fsdp2.py

SAM needs no setting for it: the norm is taken over the shards of all ranks, and each rank moves its own.
"""

import argparse

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
rows = TensorDataset(images.float() / 16, labels)
sampler = DistributedSampler(rows)
loader = DataLoader(rows, batch_size=32, sampler=sampler, drop_last=True)

model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 10))
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
for layer in model:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
opt = sm.SAM(torch.optim.AdamW(model.parameters(), lr=1e-3), rho=0.05)  # after fully_shard, as for any optimizer


def step(x, y):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    with opt.perturbed():
        nn.functional.cross_entropy(model(x), y).backward()
    opt.step()
    return loss


done = epoch = 0
while done < args.steps:
    sampler.set_epoch(epoch)
    for x, y in loader:
        loss = step(x, y)
        done += 1
        if done == args.steps:
            break
    epoch += 1

norms = [None] * dist.get_world_size()
dist.all_gather_object(norms, opt.last.dual_norm)
whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
if dist.get_rank() == 0:
    here, all_in_all = (sum(p.numel() for p in ps) for ps in ([p.to_local() for p in model.parameters()], model.parameters()))
    print(f"{args.steps} steps, {here} of {all_in_all} weights here, loss {loss.item():.3f}, norms agree: {len(set(norms)) == 1}")
    if args.save:
        torch.save(whole, args.save)
dist.monitored_barrier()
dist.destroy_process_group()
