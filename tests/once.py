"""What is made once for all processes of pytest, by whichever comes first."""

import os
import shutil

from filelock import FileLock


def once(tmp_path_factory, name, make):
    """The folder `name`, filled by make(folder) unless a process has done so."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "done").touch()
    return folder
