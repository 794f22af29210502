"""Real gloo processes on this machine: `on_ranks(work, 2)` runs `work(rank, *args)` on each and returns what they return."""

import gc
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sharpmin._check._remote import starter


def on_ranks(work, world, *args):
    """One fresh process a rank; they meet in a file, so no port is taken. An error on any rank is raised here."""
    with tempfile.TemporaryDirectory() as folder:
        given = work, world, folder, dict(os.environ), args
        starter()  # the ranks come from a process that has imported torch and sharpmin
        mp.start_processes(_fork, given, nprocs=1, start_method="forkserver")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _fork(_, work, world, *given):
    """To be given `work`, this process has imported the module of the test, once for all ranks."""
    gc.freeze()  # what has been imported is no garbage: a collection takes a seventh of a second with it
    mp.start_processes(_main, (work, world, *given), nprocs=world, start_method="fork")


def _main(rank, work, world, folder, environment, args):
    os.environ.update(environment, GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    try:
        torch.save(work(rank, *args), Path(folder) / f"{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()
