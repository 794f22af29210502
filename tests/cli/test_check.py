"""`sharpmin check` as a user meets it: a table without cuts, one JSON document, exit codes, one line for every error."""

import json
import re
import sys
import textwrap

import pytest

from sharpmin._check._suite import families
from sharpmin.cli import _progress, main

THEIRS = '''
    """A SAM of other people, with what it prints and what it lacks."""
    import torch
    print("their module talks")
    class Sam(torch.optim.Optimizer):
        def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
            super().__init__(params, dict(rho=rho, **kwargs))
            self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
            self.param_groups = self.base_optimizer.param_groups
        @torch.no_grad()
        def first_step(self, zero_grad=False):
            print("first")
            norm = torch.stack([p.grad.norm() for g in self.param_groups for p in g["params"]]).norm()
            self.e = [(p, p.grad * (g["rho"] / (norm + 1e-12))) for g in self.param_groups for p in g["params"]]
            for p, e in self.e:
                p.add_(e)
            if zero_grad:
                self.zero_grad()
        @torch.no_grad()
        def second_step(self):
            for p, e in self.e:
                p.sub_(e)
            self.base_optimizer.step()
        def step(self, closure=None):
            raise NotImplementedError
    class Needs(Sam):
        def __init__(self, params, base_optimizer, total, rho=0.05, **kwargs):
            super().__init__(params, base_optimizer, rho, **kwargs)
    def make(params, base, rho, options):
        return Sam(params, base, rho, **options)
    value = 3
'''


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(textwrap.dedent(THEIRS))
    (tmp_path / "fails.py").write_text("raise OSError('no such\\ndevice')")
    (tmp_path / "wants.py").write_text("import not_installed_here")
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("theirs", "fails", "wants"):
        sys.modules.pop(name, None)


def said(capfd, arguments, code=0):
    assert main(["check", *arguments]) == code
    return capfd.readouterr()


def test_ours(capfd, monkeypatch):
    monkeypatch.setattr(_progress, "APART", 0)
    out = said(capfd, [])
    lines = out.out.splitlines()
    assert lines[0].startswith("sharpmin.SAM by clean, closure, two-step; torch 2.")
    assert lines[1].split() == ["family", "result", "what"]
    assert lines[-1] == f"{len(families())} families: {len(families())} passed, 0 failed, 0 not offered"
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[2:-1] if not line.startswith(" ")] == list(families())
    told = out.err.splitlines()
    assert all(re.match(rf"check: \d+ of {len(families())} families, ", line) for line in told)
    assert (len(told), told[-1].split()[1]) == (10, str(len(families())))


@pytest.mark.usefixtures("theirs")
def test_theirs(capfd):
    out = said(capfd, ["theirs:Sam"], 1)
    lines = out.out.splitlines()
    words = " ".join(out.out.split())
    assert re.fullmatch(r"\d+ families: \d+ passed, \d+ failed, \d+ not offered, 1 not applicable", lines[-1])
    assert max(map(len, lines)) <= 80
    assert "restore-exact failed 50 steps at lr = 0: no drift, in bfloat16 and float32 observed: bfloat16: a relative" in words
    assert "fix: copy the weights back from a backup instead of subtracting the perturbation" in words
    assert "batchnorm-once not offered BatchNorm statistics move once a step takes no model" in words
    assert "their module talks" in out.err  # and not in the table
    assert "first" not in out.out.splitlines()


@pytest.mark.usefixtures("theirs")
def test_json_is_one_document(capfd):
    document = json.loads(said(capfd, ["theirs:Sam", "--json", "--only", "golden-step", "--only", "BARE-STEP"]).out)
    assert (document["target"], document["doors"]) == ("theirs:Sam", ["two-step"])
    assert (document["passed"], document["failed"], document["not_offered"]) == (2, 0, 0)
    assert document["families"][0] == {
        "family": "golden-step",
        "title": "One step with the numbers of a hand calculation",
        "status": "passed",
        "observed": "w' = (2.67, 0.44)",
        "right": "w' = (2.67, 0.44)",
        "fix": families()["golden-step"].fix,
        "faults": [19],
    }
    document = json.loads(said(capfd, ["theirs:Sam", "--json", "--only", "no-first-gradient"], 1).out)
    assert document["families"][0]["status"] == "failed"
    assert document["families"][0]["observed"].startswith("raised AttributeError")


@pytest.mark.usefixtures("theirs")
def test_more_arguments_and_factories(capfd):
    golden = ["--only", "golden-step"]
    assert said(capfd, ["theirs:Needs", "--set", "total=3", *golden]).out.endswith(
        "1 family: 1 passed, 0 failed, 0 not offered\n"
    )
    assert said(capfd, ["--make", "theirs:make", *golden]).out.startswith("theirs:make by two-step")
    assert said(capfd, ["Their SAM", "--make", "theirs:make", *golden]).out.startswith("Their SAM by two-step")
    assert said(capfd, ["sharpmin:SAM", *golden]).out.startswith("sharpmin.SAM by clean")
    assert said(capfd, ["--door", "closure", *golden]).out.startswith("sharpmin.SAM by closure;")
    assert "theirs" not in sys.path[0]


BAD = [
    (["nopkg_at_all:X"], "TARGET nopkg_at_all:X: there is no module nopkg_at_all; is it installed here?"),
    (["torch.nopkg:X"], "TARGET torch.nopkg:X: there is no module torch.nopkg; is it installed here?"),
    (["theirs"], "TARGET theirs: give pkg.module:name, such as sharpmin:SAM"),
    (["theirs:Other"], "TARGET theirs:Other: theirs has no Other"),
    (["theirs:value"], "theirs:value is a int, no class"),
    (["fails:X"], "TARGET fails:X: importing fails raised OSError: no such device"),
    (["wants:X"], "TARGET wants:X: importing wants raised ModuleNotFoundError: No module named 'not_installed_here'"),
    (["torch.nn:Linear"], "torch.nn:Linear(in_features, out_features, bias, device, dtype) takes no base optimizer that could"),
    (["theirs:Needs"], "theirs:Needs needs total; give --set total=..., or a factory: --make module:function"),
    (["theirs:Sam", "--set", "total"], "--set total: give KEY=VALUE"),
    (["theirs:Sam", "--door", "window"], "--door window: give closure or two-step"),
    (["theirs:Sam", "--only", "nothing"], "no family 'nothing'; nearest: copying"),
    (["--set", "total=1"], "--set needs a TARGET"),
    (["--make", "theirs:make", "--set", "a=1"], "--set and --make do not go together"),
    (["--make", "theirs:value"], "theirs:value is a int, no function"),
    (["--make", "theirs:none"], "--make theirs:none: theirs has no none"),
    (["--door", "window"], "--door 'window': SAM has block, clean, closure and two-step"),
    (["--nothing"], "no option --nothing; nearest: --only"),
]


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_use_is_one_line(capfd, arguments, message):
    out = said(capfd, arguments, 2)
    (line,) = [text for text in out.err.splitlines() if text != "their module talks"]
    assert line.startswith(f"sharpmin: check: {message}")
    assert "; for example: sharpmin check " in line
    assert out.out == ""


def test_an_interrupt(capfd, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sharpmin._check._suite.examine", interrupt)
    out = said(capfd, [], 130)
    assert "sharpmin: interrupted" in out.err
    assert out.out == ""


def test_ranks(theirs, capfd):
    """One spawn: a class of the current folder, families of one process and of two, one document."""
    names = ["golden-step", "ddp-golden-step", "ddp-batchnorm", "fsdp-golden-step"]
    only = [word for name in names for word in ("--only", name)]
    out, _ = said(capfd, ["theirs:Sam", "--set", "nesterov=False", "--ranks", "2", "--json", *only], code=0)
    document = json.loads(out)
    statuses = {outcome["family"]: outcome["status"] for outcome in document["families"]}
    assert list(statuses) == names
    assert statuses == {**dict.fromkeys(names, "passed"), "ddp-batchnorm": "not offered"}
    assert (document["ranks"], document["passed"], document["not_offered"]) == (2, 3, 1)


def test_a_family_that_fails_on_ranks(theirs, capfd):
    out, _ = said(capfd, ["theirs:Sam", "--ranks", "2", "--only", "ddp-restore"], code=1)
    assert "theirs:Sam by two-step; torch" in out
    assert "; 2 ranks" in out
    assert "float32: the weights differ by" in out
    assert "1 family: 0 passed, 1 failed, 0 not offered" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ranks", "1"], "--ranks 1: give 2 to 8; every rank is a process on this machine"),
        (["--ranks", "0"], "--ranks 0: give 2 to 8"),
        (["--ranks", "64"], "--ranks 64: give 2 to 8"),
        (["--ranks", "two"], "check: --ranks 'two' must be a valid integer"),
        (["--only", "fsdp-restore"], "fsdp-restore needs several processes; give --ranks 2 too"),
        (["--ranks", "2", "--only", "nothing"], "no family 'nothing'; nearest: copying"),
    ],
)
def test_ranks_that_make_no_sense(capfd, arguments, message):
    out, err = said(capfd, arguments, code=2)
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
