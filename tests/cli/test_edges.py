"""The command line where things go wrong or far: divergence, narrow terminals, Ctrl-C, ambiguous words, too many lanes."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.table import Table

from sharpmin.cli import _simulate as command
from sharpmin.cli import main
from sharpmin.cli._console import Whole

SHARPMIN = [sys.executable, "-m", "sharpmin"]
PARABOLA = ["simulate", "quadratic", "--set", "curvatures=[1]"]
DIVERGES = [*PARABOLA, "--method", "usam", "--lr", "3", "--rho", "9", "--steps", "999"]
AT_ONCE = ["--lr", "0.1", "--rho", "0.1", "--steps", "1", "--x0", "1"]


def table(text):
    """Title, header and one list of cells a row."""
    title, header, *rows = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines())
    return title[0], header, {row[0]: row[1:] for row in rows}


def test_divergence_is_shown_and_no_warning(capfd):
    """A process of its own would print warnings; here they are errors."""
    assert main([*DIVERGES, "--x0", "1,0"]) == 0
    out = capfd.readouterr()
    assert out.err == ""
    title, _, rows = table(out.out)
    assert title == "quadratic, usam, 999 steps, 2 lanes, 1 diverged"
    assert rows["f(x_T) - f*"] == ["not finite"] * 4
    assert rows["min of ||grad f(x_t)||^2"] == ["0.5", "0.5", "0", "1"]
    assert main([*DIVERGES, "--x0", "1,0", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["diverged"] == 1


def test_divergence_in_a_process():
    done = subprocess.run([*SHARPMIN, *DIVERGES, "--x0", "1"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "1 lane, 1 diverged" in done.stdout


@pytest.mark.parametrize("columns", ["20", "80", "200"])
@pytest.mark.parametrize("start", ["1e-30,2e-30", "1e150,2e150"])
def test_no_number_is_cut_or_lost(columns, start, capsys, monkeypatch):
    """gap = x^2/2: mean 5/4 and standard error 3/4 of 2 gaps 1/2 and 2, whatever the scale; three digits of exponent."""
    monkeypatch.setenv("COLUMNS", columns)
    lr, steps = ("0.5", "340") if start[2] == "-" else ("1e-9", "1")
    assert main([*PARABOLA, "--method", "gd", "--lr", lr, "--steps", steps, "--x0", start]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= max(80, int(columns))
    _, header, rows = table(out)
    assert header == ["statistic", "mean", "standard error", "least", "largest"]
    unit = float(start[:-1].split(",")[0]) ** 2 * float(0.5 ** (2 * 340) if start[2] == "-" else 1)
    assert [float(v) / unit for v in rows["f(x_T) - f*"]] == pytest.approx([1.25, 0.75, 0.5, 2.0], rel=1e-4)


@pytest.mark.parametrize("count", [2, 6])
def test_a_table_gets_the_width_it_needs(count, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    wide = Table(box=None)
    for k in range(count):
        wide.add_column(str(k), no_wrap=True)
    wide.add_column("words", min_width=11)
    numbers = [f"{k}.{'0' * 16}{k}" for k in range(count)]
    wide.add_row(*numbers, "rho floor 3, mixed 1")
    Whole().print(wide)
    (line, *rest) = capsys.readouterr().out.splitlines()[1:]
    assert line.split()[:count] == numbers
    assert " ".join([line, *rest]).split()[count:] == ["rho", "floor", "3,", "mixed", "1"]
    assert (len(line) > 80) == (count == 6)


@pytest.mark.parametrize("columns", ["20", "80"])
def test_a_list_keeps_its_names_on_a_narrow_terminal(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["list"]) == 0
    assert "…" not in capsys.readouterr().out


REFUSED = [
    ([*PARABOLA, *AT_ONCE, "--rho", "Cosine(0.05, steps=10, steps=20)"], "steps is given 2 times; keep one of them"),
    ([*PARABOLA, *AT_ONCE, "--rho", "Every(InverseSqrt(rho=1, rho=2), k=2)"], "rho is given 2 times; keep one of them"),
    ([*PARABOLA, *AT_ONCE, "--lr", "InverseTime(1, shift=2, shift=3)"], "shift is given 2 times; keep one of them"),
    ([*PARABOLA, *AT_ONCE, "--set", "curvatures=[2]"], "--set curvatures= is given more than once; keep one of them"),
    (["simulate", "quadratic", "--set", "curvatures=abc", *AT_ONCE], "curvatures='abc' must be a list of numbers, such as"),
    (["simulate", "quadratic", "--set", "curvatures={1: 2}", *AT_ONCE], "curvatures={1: 2} must be a list of numbers"),
    (["simulate", "quadratic", "--set", "curvatures=None", *AT_ONCE], "curvatures=None is a NoneType; curvatures must be"),
    (["simulate", "logcosh", "--set", "beta=1", "--set", "dim=abc", *AT_ONCE], "dim='abc' is a str; dim must be an integer"),
    (["simulate", "digits", "--set", "l2=abc", *AT_ONCE], "l2='abc' is a str; l2 must be a finite number > 0"),
    ([*PARABOLA, *AT_ONCE, "--seeds", "100000000000"], "100000000000 lanes need at least"),
    ([*PARABOLA, *AT_ONCE, "--out", "run.nc/"], "--out run.nc/ names a folder; name a file; for example: --out run.nc"),
    ([*PARABOLA, *AT_ONCE, "--out", "folder.nc"], "folder.nc names a folder; name a file; for example: --out folder.nc/run.nc"),
    ([*PARABOLA, *AT_ONCE, "--out", "folder.nc/"], "names a folder; name a file; for example: --out folder.nc/run.nc"),
    ([*PARABOLA, *AT_ONCE, "--out", "no/run.nc"], "there is no folder no; choose a file in a folder that exists"),
    (["plan", "--setting", "convex", "--oracle", "exact", "--beta", "1", "--rho", "0.1", "--steps", "9", "--delta", "0"],
     "--delta 0 says that x0 is a minimizer, so nothing has to be done"),
    (["plan", "--setting", "nonconvex", "--oracle", "exact", "--beta", "1e200", "--rho", "1", "--steps", "9", "--delta", "1"],
     "t4.bound: --beta 1e+200, --rho 1, --steps 9, --delta 1, --lr 1e-200 lead beyond floating point"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_meant_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.nc").mkdir()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("sharpmin: ")
    assert message in err
    assert "; for example: " in err
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.nc"]


def test_ctrl_c_in_a_long_run(tmp_path):
    arguments = [
        *PARABOLA,
        "--lr",
        "0.1",
        "--rho",
        "0.1",
        "--steps",
        "100000000000",
        "--x0",
        "1",
        "--out",
        str(tmp_path / "run.nc"),
    ]
    code = (
        "import sys\nfrom sharpmin import theory\nfrom sharpmin.cli import main\nreal = theory.simulate\n"
        "def simulate(*a, **k):\n    real(*a, **{**k, 'steps': 3})\n"  # compiled, so that the signal finds the loop
        "    print('running', flush=True)\n    return real(*a, **k)\n"
        f"theory.simulate = simulate\nsys.exit(main({arguments!r}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # in the background it is ignored
    )
    with process:
        try:
            assert process.stdout.readline() == "running\n"
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()  # else one that does not end would compute beside all tests to come
    assert (process.returncode, out, err) == (130, "", "sharpmin: interrupted; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


INTERRUPTIBLE = [
    (["plan", "--rho", "0.1", "--steps", "9", "--beta", "1", "--delta", "1"], "sharpmin.theory.plan"),
    (["list"], "sharpmin.theory.theorems"),
    (["cite"], "sharpmin.theory.theorems"),
    ([*PARABOLA, *AT_ONCE], "sharpmin.theory.simulate"),
]


@pytest.mark.parametrize(("arguments", "where"), INTERRUPTIBLE)
def test_ctrl_c_in_any_command_is_one_line(arguments, where, capsys, monkeypatch):
    monkeypatch.setattr(where, interrupted)
    assert main(arguments) == 130
    assert capsys.readouterr() == ("", "sharpmin: interrupted; nothing was written\n")


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


def test_ctrl_c_after_the_run_is_on_disk(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "_print", interrupted)
    out = tmp_path / "run.nc"
    assert main([*PARABOLA, *AT_ONCE, "--out", str(out)]) == 130
    assert capsys.readouterr() == ("", f"sharpmin: interrupted; the run is in {out}\n")
    assert out.exists()


def test_ctrl_c_after_the_report_is_on_disk(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sharpmin.cli._reproduce.table", interrupted)
    assert main(["reproduce", "--quick", "--only", "c1", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == f"sharpmin: interrupted; all is in {tmp_path}\n"
    assert "Interrupted after" not in (tmp_path / "report.html").read_text()
