"""Sweeps: independent tasks, computed on one machine or on a cluster, their rows on disk, and the rows as labelled data.

`compute` yields the rows as they finish, `Store` keeps them, `to_dataset` labels them, `write_zarr` exports them.
"""

from ._compute import compute
from ._stop import Stopped
from ._store import Row, Store, Task

__all__ = ["Row", "Stopped", "Store", "Task", "compute"]
