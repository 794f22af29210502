"""Sweeps: independent tasks, computed on one machine or on a cluster, their rows on disk, and the rows as labeled data.

`compute` yields the rows as they finish, `Store` keeps them, `to_dataset` labels them, `write_zarr` exports them.
"""

from ._compute import compute
from ._dataset import to_dataset
from ._stop import Stopped
from ._store import Row, Store, Task
from ._zarr import write_zarr, zarr_target

__all__ = ["Row", "Stopped", "Store", "Task", "compute", "to_dataset", "write_zarr", "zarr_target"]
