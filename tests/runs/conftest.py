"""A Dask cluster of two processes, on free ports of this machine."""

import socket

import pytest
from distributed import LocalCluster


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster:
        yield cluster


@pytest.fixture
def threads():
    """Starts a cluster of threads in this process, which costs next to nothing."""
    begun = []

    def start(**options):
        begun.append(LocalCluster(processes=False, protocol="tcp", dashboard_address=":0", host="127.0.0.1", **options))
        return begun[-1]

    yield start
    for each in begun:
        each.close()


@pytest.fixture
def nobody():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{taken.getsockname()[1]}"
