"""The site, built once for all tests, by whichever process of pytest comes first."""

import shutil

import pytest
from filelock import FileLock
from tools.docs.build import build


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id):
    shared = tmp_path_factory.getbasetemp()
    folder = (shared if worker_id == "master" else shared.parent) / "docs-site"
    with FileLock(f"{folder}.lock"):
        if not (folder / "site").is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
    return folder / "site"
