"""Real gloo processes on this machine: `on_ranks(work, 2)` runs `work(rank, *args)` on each and returns what they return."""

import contextlib
import gc
import io
import os
import runpy
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

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


def launch(script, *options):
    """What the script prints on rank 0, started as by torchrun on two ranks, but forked like those of `on_ranks`."""
    starter()
    config = LaunchConfig(1, 1, 2, run_id="here", rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", start_method="forkserver")
    return elastic_launch(config, _script)(dict(os.environ), str(script), *options)[0]


def _script(environment, *arguments):
    os.environ.update({name: value for name, value in environment.items() if name not in os.environ})
    os.environ.update(GLOO_SOCKET_IFNAME="lo", CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    sys.argv = list(arguments)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(arguments[0], run_name="__main__")
    return printed.getvalue().strip()
