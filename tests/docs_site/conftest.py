"""The site, built once for all tests."""

import pytest
from tools.docs.build import build

from ..once import once


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    return once(tmp_path_factory, "docs-site", build) / "site"
