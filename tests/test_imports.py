"""Everything imports with torch alone, in a Python that has nothing else, `import sharpmin` stays light, and no circles."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import grimp
import networkx
import pytest
from tests.bare import link

import sharpmin

HEAVY = {"numpy", "scipy", "xarray", "pandas", "sklearn", "threadpoolctl", "typer", "rich", "jinja2", "numba", "plotly"}
HEAVY |= {"lightning", "torchmetrics", "transformers", "accelerate", "peft", "wandb", "mlflow", "dask", "distributed", "zarr"}
HEAVY |= {"clarabel", "cma"}


SERVER = """
import json, os, sys, torch
for line in sys.stdin:
    code, out, err = json.loads(line)
    if not (child := os.fork()):
        for name, number in ((out, 1), (err, 2)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        failed = 1
        try:
            exec(code, {})
            failed = 0
        except SystemExit as error:
            failed = error.code or 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        os._exit(failed)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs each code in a process of its own, forked from one that has imported torch."""


@pytest.fixture(scope="module")
def torch_only(tmp_path_factory):
    """Runs code in a Python that sees the standard library, torch with what it requires, and sharpmin."""
    folder = tmp_path_factory.mktemp("torch-only")
    link(folder, ["torch"])
    (folder / "sharpmin").symlink_to(Path(sharpmin.__file__).parent)
    command = [sys.executable, "-S", "-E", "-W", "ignore", "-c", f"import sys; sys.path.append({str(folder)!r})\n{SERVER}"]
    files = [folder / "out.txt", folder / "err.txt"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def run(code, *, check=True):
            print(json.dumps([code, *map(str, files)]), file=server.stdin, flush=True)
            ended, (out, err) = int(server.stdout.readline()), (file.read_text() for file in files)
            assert ended == 0 or not check, err
            return subprocess.CompletedProcess(command, ended, out, err)

        yield run
        server.stdin.close()


def test_every_module_imports(torch_only):
    code = """
import importlib, pkgutil, sharpmin
for module in pkgutil.walk_packages(sharpmin.__path__, "sharpmin."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print(module.name, error)
"""
    commands = (
        "_app",
        "_certify",
        "_check",
        "_cite",
        "_console",
        "_diagnose",
        "_list",
        "_plan",
        "_progress",
        "_refute",
        "_reproduce",
        "_rho",
        "_runs",
        "_simulate",
        "_study",
    )
    needs = {name: "rich" if name in ("_console", "_progress") else "typer" for name in commands}
    expected = [f"sharpmin.cli.{name} No module named {missing!r}" for name, missing in needs.items()]
    expected.append("sharpmin.integrations._lightning No module named 'lightning'")  # a callback must be a Callback
    assert torch_only(code).stdout.splitlines() == expected


def test_training_and_bounds_work(torch_only):
    code = """
import torch, sharpmin as sm
w = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
def closure():
    opt.zero_grad()
    loss = (w[0] ** 2 + 4 * w[1] ** 2) / 2
    loss.backward()
    return loss
opt.step(closure)
print([round(v, 5) for v in w.tolist()], sm.theory.theorems()["t4"].bound(beta=1.0, rho=0.5, steps=1000, delta=1.0))
"""
    assert torch_only(code).stdout.strip() == "[2.67, 0.44] 0.252"


def test_what_needs_the_lab_says_the_pip_line(torch_only):
    code = """
from sharpmin import theory
problem = theory.problems()["e1"](beta=1.0, mu=0.1, rho=1.0)
theory.simulate(problem, method="sam", lr=0.1, rho=0.1, steps=1, x0=1.0)
"""
    run = torch_only(code, check=False)
    assert run.stderr.strip().splitlines()[-1].endswith("pip install 'sharpmin[lab]'")


PROBE = """
import torch
from sharpmin.diagnostics import hessian_spectrum, hessian_trace, m_sharpness, worst_loss
model = torch.nn.Linear({width}, 1, bias=False).double()
torch.nn.init.zeros_(model.weight)
data = [(torch.ones(2, {width}).double(), torch.tensor([[1.0], [-1.0]]).double())]
"""


def test_probes_work(torch_only):
    code = """
print(round(worst_loss(model, torch.nn.MSELoss(), data, rho=0.1).sharpness, 6))
print(round(m_sharpness(model, torch.nn.MSELoss(), data, m=1, rho=0.1).sharpness, 6))
print(hessian_trace(model, torch.nn.MSELoss(), data, probes=2).value)
"""
    assert torch_only(PROBE.format(width=1) + code).stdout.split() == ["0.01", "0.21", "2.0"]


@pytest.mark.parametrize("width", [2, 40])
def test_the_spectrum_says_the_pip_line(torch_only, width):
    run = torch_only(PROBE.format(width=width) + "hessian_spectrum(model, torch.nn.MSELoss(), data)", check=False)
    assert run.stderr.strip().splitlines()[-1].endswith("pip install 'sharpmin[lab]'")


def test_what_needs_a_framework_says_the_pip_line(torch_only):
    run = torch_only("import sharpmin as sm; sm.integrations.LightningSAM()", check=False)
    assert run.stderr.strip().splitlines()[-1].endswith("pip install 'sharpmin[lightning]'")


def test_the_command_line_says_the_pip_line(torch_only):
    run = torch_only("import sys; from sharpmin.cli import main; sys.exit(main(['reproduce']))", check=False)
    assert run.returncode == 2
    assert run.stderr == "sharpmin: 'typer' is not installed; this part of sharpmin needs it: pip install 'sharpmin[cli]'\n"


def python(code, *arguments):
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(
    ("before", "code", "parts"),
    [
        ("", "import sharpmin", {"_version"}),
        ("import torch; ", "from sharpmin import SAM", {"_version", "core", "optim"}),
    ],
)
def test_import_is_light(before, code, parts):
    """By itself not even torch; a name that trains loads what trains: nothing that torch has not loaded, of torch neither."""
    loaded = python(f"{before}import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))").split()
    assert {name.split(".")[0] for name in loaded} - sys.stdlib_module_names == {"sharpmin"}
    assert {name.split(".")[1] for name in loaded if name.startswith("sharpmin.")} == parts


def test_all_of_it_loads_nothing_heavy():
    code = "import torch, sys; before = set(sys.modules); from sharpmin import *; print(*(set(sys.modules) - before))"
    assert {name.split(".")[0] for name in python(code).split()} & HEAVY == set()


EACH = """
import os, sys, traceback, torch
for code in sys.argv[1:]:
    if not (child := os.fork()):
        try:
            exec(code, {})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"in a process of its own: {code}")
"""
LATER = tuple(name for name in sharpmin.__all__ if name != "__version__")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each module takes too long without fork")
def test_every_name_works_as_the_first_thing_used():
    """Names of one module are its one first thing; the others of that module are read after the first."""
    every, modules = ", ".join(sharpmin.__all__), {}
    for name in LATER:
        modules.setdefault(name if name in sharpmin._MODULES else sharpmin._HOMES.get(name, "optim"), []).append(name)
    assert len(modules) >= 8
    cases = [f"from sharpmin import {every}", f"from sharpmin import *; {every}"]
    for names in modules.values():
        cases += ["import sharpmin; " + "; ".join(f"sharpmin.{name}; assert '{name}' in vars(sharpmin)" for name in names)]
        cases += ["; ".join(f"from sharpmin import {name}" for name in names)]
    cases += [
        "import sharpmin; sharpmin.theory.plan",
        "import sharpmin.theory as t; t.plan",
        "from sharpmin.theory import plan",
    ]
    cases += ["import sharpmin; assert set(dir(sharpmin)) >= set(sharpmin.__all__)"]
    cases += ["import sharpmin; assert not hasattr(sharpmin, 'theorie')"]
    cases += ["import sharpmin, sharpmin._check, sharpmin._check._own_setup as o; assert sharpmin.check is o.check"]
    cases += ["import sharpmin; sharpmin.diagnose; assert sharpmin.watch is sharpmin.diagnostics.watch"]
    functions = [sharpmin.check, sharpmin.diagnose, sharpmin.watch, sharpmin.theory.plan, sharpmin.diagnostics.Window]
    cases += [f"import pickle; assert callable(pickle.loads({pickle.dumps(function)!r}))" for function in functions]
    python(EACH, *cases)


def test_a_misspelled_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'sharpmin' has no attribute 'theroy'"):
        _ = sharpmin.theroy


def test_no_circles_of_imports():
    """Neither through imports inside functions nor through those for type checkers."""
    graph = grimp.build_graph("sharpmin", cache_dir=None)
    imports = networkx.DiGraph([(a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a)])
    assert len(imports) > 200
    assert [sorted(circle) for circle in networkx.strongly_connected_components(imports) if len(circle) > 1] == []
