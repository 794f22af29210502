"""Optional dependencies and the two errors."""

import copy
import pickle
import sys

import pytest

from sharpmin import MissingExtraError, PhaseError
from sharpmin.core.extras import optional


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place on the path for modules made up by a test."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("made_up")]:
        del sys.modules[name]


def test_the_module_is_imported_on_first_use(folder):
    (folder / "made_up.py").write_text("value = 3\ndef double(x): return 2 * x\n")
    stand_in = optional("made_up", extra="lab")
    assert "made_up" not in sys.modules
    assert (stand_in.value, stand_in.double(4)) == (3, 8)
    assert "made_up" in sys.modules
    with pytest.raises(AttributeError, match="nothing"):
        _ = stand_in.nothing


@pytest.mark.parametrize("module", ["made_up_and_missing", "made_up_and_missing.part"])
def test_a_missing_module_names_the_pip_line(module):
    stand_in = optional(module, extra="lab")
    with pytest.raises(MissingExtraError) as caught:
        _ = stand_in.anything
    assert "pip install 'sharpmin[lab]'" in str(caught.value)
    assert (caught.value.module, caught.value.extra) == (module, "lab")


def test_a_module_that_is_broken_says_so_itself(folder):
    (folder / "made_up_broken.py").write_text("import made_up_elsewhere\n")
    with pytest.raises(ModuleNotFoundError, match="made_up_elsewhere") as caught:
        _ = optional("made_up_broken", extra="lab").anything
    assert not isinstance(caught.value, MissingExtraError)


@pytest.mark.parametrize("name", ["__wrapped__", "__file__", "__iter__"])
def test_looking_around_does_not_need_the_module(name):
    """As `inspect` and doctest do with everything that they find in a module."""
    assert not hasattr(optional("made_up_and_missing", extra="lab"), name)


@pytest.mark.parametrize("clone", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))], ids=["copy", "pickle"])
def test_the_error_travels(clone):
    error = MissingExtraError("numba", "lab")
    other = clone(error)
    assert (str(other), other.module, other.extra) == (str(error), "numba", "lab")


@pytest.mark.parametrize(("error", "parent"), [(MissingExtraError, ImportError), (PhaseError, RuntimeError)])
def test_parents(error, parent):
    assert issubclass(error, parent)
