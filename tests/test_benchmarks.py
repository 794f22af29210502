"""The benchmarks are no part of the package, and use what is private in it: each must find what it imports."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"
CODE = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    print(name)
"""


def test_every_benchmark_can_be_imported():
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    done = subprocess.run([sys.executable, "-c", CODE, *names], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.stdout.split() == names, done.stderr
