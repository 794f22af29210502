"""`sharpmin check` on a class that may do anything: it is told as such, the rest goes on, and the output stays clean."""

import json
import os
import signal
import sys
import textwrap
import time

import pytest

from sharpmin._check._named import Named
from sharpmin._check._remote import RemoteSubject
from sharpmin._check._suite import families
from sharpmin.cli import main

HOSTILE = '''
    """One that is right until its `trick` is played."""
    import os, signal, sys, time
    import sharpmin as sm

    class Unspeakable(Exception):
        def __str__(self):
            raise RuntimeError("not to be shown")

    def play(trick):
        if trick == "exits":
            sys.exit(0)
        if trick == "exits without a word":
            os._exit(0)
        if trick == "breaks its pipe":
            os._exit(141)
        if trick == "kills itself":
            os.kill(os.getpid(), signal.SIGKILL)
        if trick == "loops":
            while True:
                time.sleep(0.01)
        if trick == "raises what cannot be shown":
            raise Unspeakable
        if trick == "raises an escape":
            raise ValueError("\\x1b[31mred\\x07")
        if trick == "talks":
            os.write(1, b'{"passed": 99}')
            print('{"passed": 98}')
        if trick == "changes the path":
            sys.path.clear()

    class Sam(sm.SAM):
        trick = ""
        def __init__(self, base, rho=0.05, **options):
            super().__init__(base, rho, **options)
        def perturb(self, scaler=None):
            super().perturb(scaler)
            if self.rho:
                play(self.trick)
'''
TRICKS = {
    "exits": ("failed", "raised SystemExit: 0"),
    "exits without a word": ("failed", "its process died (exit code 0)"),
    "breaks its pipe": ("failed", "its process died (exit code 141)"),
    "kills itself": ("failed", "its process died (killed by SIGKILL)"),
    "loops": ("failed", "was not done after 2 s"),
    "raises what cannot be shown": ("failed", "raised Unspeakable: (it cannot be shown)"),
    "raises an escape": ("failed", "raised ValueError: ?[31mred?"),
    "talks": ("passed", "w' = (2.67, 0.44)"),
    "changes the path": ("passed", "w' = (2.67, 0.44)"),
}


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    code = textwrap.dedent(HOSTILE)
    for i, trick in enumerate(TRICKS):
        code += f"\nclass Sam{i}(Sam):\n    trick = {trick!r}\n"
        (tmp_path / f"imported{i}.py").write_text(f"import hostile\nhostile.play({trick!r})\nSam = hostile.Sam")
    (tmp_path / "hostile.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return list(TRICKS)


@pytest.mark.parametrize("trick", TRICKS)
def test_a_step_that_does_it(trick, hostile, capfd, monkeypatch):
    status, observed = TRICKS[trick]
    path = list(sys.path)
    if trick == "loops":
        monkeypatch.setattr(RemoteSubject.__init__, "__defaults__", (2.0,))
    code = main(["check", f"hostile:Sam{hostile.index(trick)}", "--json", "--only", "golden-step", "--only", "rho-zero"])
    out = capfd.readouterr()
    document = json.loads(out.out)
    first = document["families"][0]
    assert (first["status"], code) == (status, 1 if status == "failed" else 0)
    assert observed in first["observed"]
    assert first["observed"].isprintable()
    assert document["families"][1]["status"] == "passed"  # which plays no trick
    assert sys.path == path
    assert ('"passed": 99' in out.err) == (trick == "talks")


@pytest.mark.parametrize("trick", TRICKS)
def test_a_module_that_does_it_when_it_is_imported(trick, hostile, capfd, monkeypatch):
    if trick == "loops":
        monkeypatch.setattr("sharpmin._check._remote.START", 2.0)
    code = main(["check", f"imported{hostile.index(trick)}:Sam", "--json", "--only", "golden-step"])
    out = capfd.readouterr()
    if TRICKS[trick][0] == "passed":
        assert (code, json.loads(out.out)["passed"]) == (0, 1)
    else:
        assert (code, out.out) == (2, "")
        (line,) = out.err.splitlines()
        assert line.startswith("sharpmin: ")
        assert TRICKS[trick][1] in line
        assert line.isprintable()


def test_time_limits_shrink_once_one_was_not_met(hostile, monkeypatch):
    monkeypatch.setattr("sharpmin._check._remote.LIMIT", 10.0)
    golden = families()["golden-step"]
    with RemoteSubject(Named(f"hostile:Sam{hostile.index('loops')}"), limit=3.0) as apart:
        assert "after 3 s" in apart.examine(golden).observed
        begin = time.monotonic()
        assert "after 1 s" in apart.examine(golden).observed
        assert time.monotonic() - begin > 1.0


def test_nothing_runs_on_after_it_was_stopped(hostile):
    with RemoteSubject(Named("hostile:Sam0")) as apart:
        pid = apart._process.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
