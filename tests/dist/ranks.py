"""Real gloo processes on this machine: `on_ranks(work, 2)` runs `work(rank, *args)` on each and returns what they return."""

import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def on_ranks(work, world, *args):
    """One process a rank; they meet in a file, so no port is taken. An error on any rank is raised here."""
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(_main, (work, world, folder, args), nprocs=world, start_method="spawn")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _main(rank, work, world, folder, args):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    try:
        torch.save(work(rank, *args), Path(folder) / f"{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()
