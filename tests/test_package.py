"""What is released: the sdist and the wheel are built and looked into, and the wheel works where only its requirements are."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_string
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from tests.bare import link

import sharpmin

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sharpmin"


def build(project, to):
    """An sdist and a wheel of `project`, with what is installed here: no network."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", to], cwd=project, check=True, capture_output=True)
    (sdist,), (wheel,) = to.glob("*.tar.gz"), to.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def about(built):
    """The wheel's metadata."""
    with zipfile.ZipFile(built[1]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(wheel.read(name).decode())


def test_the_wheel_is_the_package_and_nothing_else(built):
    ours = {p.relative_to(SOURCE.parent).as_posix() for p in SOURCE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == ours
    assert {"sharpmin/py.typed", "sharpmin/report/templates/page.html.j2"} <= names
    assert not [name for name in names if "test" in Path(name).stem.split("_") + name.split("/")]


def test_the_sdist_has_what_its_tests_need_and_builds_the_same_wheel(built, tmp_path):
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (project,) = tmp_path.iterdir()
    needed = {".github", "Makefile", "benchmarks", "docs", "examples", "src", "templates", "tests", "tools"}
    assert needed <= {path.name for path in project.iterdir()}
    again = build(project, tmp_path / "again")[1]
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_the_metadata(about):
    assert about["Name"] == "sharpmin"
    assert Version(about["Version"]) == Version(sharpmin.__version__)
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Requires-Python"] == ">=3.11"
    assert [r for r in about.get_all("Requires-Dist") if "extra ==" not in r] == ["torch>=2.6"]
    assert {"cli", "lab", "study", "cluster", "export", "pep"} <= set(about.get_all("Provides-Extra"))


def test_the_news_begin_with_this_version():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1]
    assert newest == ("Unreleased" if Version(sharpmin.__version__).is_devrelease else sharpmin.__version__)


def test_the_addresses_name_what_exists(about):
    urls = dict(line.split(", ") for line in about.get_all("Project-URL"))
    assert set(urls) >= {"Source", "Documentation", "Changelog", "Issues"}
    source = urls["Source"]
    for url in urls.values():
        if found := re.fullmatch(rf"{source}/(?:blob|tree)/main/(.*)", url):
            assert (ROOT / found[1]).exists(), url


def test_the_page_of_the_index_has_whole_addresses(about):
    """There are no files beside it."""
    page = about.get_payload()
    targets = re.findall(r"\]\((.*?)\)", page)
    assert len(targets) > 20
    assert [target for target in targets if not target.startswith("https://")] == []
    raw = "https://raw.githubusercontent.com/sharpmin/sharpmin/main/"
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert len(pictures) == len(re.findall(r"!\[", (ROOT / "README.md").read_text()))
    for picture in pictures:
        assert (ROOT / picture.removeprefix(raw)).is_file(), picture


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory):
    """A new environment with the wheel, and what it requires: (extra, name) pairs, the extra "" for what it always does."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(built[1])], check=True)
    (installed,) = folder.glob("lib/python*/site-packages/sharpmin-*.dist-info")
    return folder, [Requirement(line) for line in PathDistribution(installed).requires or []]


@pytest.fixture(scope="module", params=["", "cli", "lab"], ids=["core", "cli", "lab"])
def bare(request, environment, tmp_path_factory):
    """The extra, and what runs a command where the wheel is and what it requires with the extra, no more."""
    folder, wanted = environment
    others = tmp_path_factory.mktemp("others")
    link(others, [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": request.param})])
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(f"{others}\n")

    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env["PYTHONWARNINGS"] = "ignore"  # torch's own, that it has no numpy

    def run(command, *arguments):
        command = [folder / "bin" / command, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=env)

    return request.param, run


def said(run):
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


STEP = """
import torch, sharpmin as sm
w = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
def closure():
    opt.zero_grad()
    loss = (w[0] ** 2 + 4 * w[1] ** 2) / 2
    loss.backward()
    return loss
opt.step(closure)
print([round(v, 5) for v in w.tolist()])
"""
WHERE = """
import importlib.util, sharpmin
print(*(name for name in ("numpy", "typer", "rich", "scipy", "numba", "pytest") if importlib.util.find_spec(name)))
print(sharpmin.__file__)
"""
SEEN = {"": "", "cli": "typer rich", "lab": "numpy typer rich scipy numba"}


def test_nothing_more_than_was_asked_for(bare):
    extra, run = bare
    seen, file = run("python", "-c", WHERE).stdout.splitlines()
    assert seen == SEEN[extra]
    assert "site-packages" in file


@pytest.mark.parametrize("bare", ["", "lab"], indirect=True)
def test_a_step(bare):
    """Without numpy, and with it."""
    assert said(bare[1]("python", "-c", STEP)) == "[2.67, 0.44]"  # e = 0.5 (3, 4)/5, and w - 0.1 (3.3, 5.6)


def test_the_command(bare):
    """Without typer it says what to install, in one line."""
    extra, run = bare
    version = run("sharpmin", "--version")
    if extra:
        assert said(version) == f"sharpmin {sharpmin.__version__}"
    else:
        assert version.returncode == 2
        assert version.stdout == ""
        assert re.fullmatch(r"sharpmin: .*pip install 'sharpmin\[cli\]'.*\n", version.stderr)


def test_the_laboratory(bare):
    """A statement is confronted; without numpy the command says what to install."""
    extra, run = bare
    reproduced = run("sharpmin", "reproduce", "--only", "trap", "--quick")
    if extra == "lab":
        assert "1 statement" in said(reproduced)
    else:
        assert reproduced.returncode == 2
        assert re.search(r"pip install 'sharpmin\[(cli|lab)\]'\n$", reproduced.stderr)
