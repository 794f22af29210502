"""`sharpmin reproduce` as a user meets it: real processes, exit codes, files that are always whole."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from sharpmin.cli import main
from sharpmin.theory import theorems
from sharpmin.theory._statements.theorem import _THEOREMS

FIELDS = {"id", "claim", "kind", "measured", "bound", "ratio", "holds", "vacuous", "n_cells"}
SHARPMIN = [sys.executable, "-m", "sharpmin"]


def run(*arguments, **options):
    return subprocess.run([*SHARPMIN, *arguments], capture_output=True, text=True, check=False, **options)


def only(*names):
    return [word for name in names for word in ("--only", name)]


def verdicts(folder):
    return json.loads((folder / "verdicts.json").read_text())


def test_two_statements_end_to_end(tmp_path):
    done = run("reproduce", "--quick", "--out", str(tmp_path / "new" / "out"), *only("c1", "t2"))
    assert (done.returncode, done.stderr) == (0, "")
    rows = verdicts(tmp_path / "new" / "out")
    assert [row["id"] for row in rows] == ["c1", "t2"]
    assert all(row.keys() >= FIELDS and row["holds"] for row in rows)
    report = (tmp_path / "new" / "out" / "report.html").read_text()
    assert "c1" in report
    assert "Trajectories" in report or "plotly" in report.lower()
    assert [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("P")] == [["P1", "c1"], ["P1", "t2"]]
    assert all(len(line) <= 80 for line in done.stdout.splitlines()[:-1])
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == ["report.html", "verdicts.json"]


def test_latex_for_a_paper(tmp_path, capsys):
    out, tex = tmp_path / "out", tmp_path / "new" / "tex"
    assert main(["reproduce", "--quick", "--out", str(out), "--tex", str(tex), *only("c1")]) == 0
    assert {"main.tex", "statements.tex", "settings.tex", "references.bib", "figure-rates.tex"} <= {
        p.name for p in tex.iterdir()
    }
    assert "c1" in (tex / "statements.tex").read_text()
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "verdicts.json"]
    (tmp_path / "file").write_text("")
    capsys.readouterr()
    assert main(["reproduce", "--quick", "--out", str(out), "--tex", str(tmp_path / "file"), *only("c1")]) == 2
    assert "cannot write to --tex" in capsys.readouterr().err


def test_two_processes_write_the_same(tmp_path):
    """In the order that was asked for, whichever is finished first: digits-t1 takes longer than all the others."""
    for workers in ("1", "2"):
        command = ["reproduce", "--quick", "--out", str(tmp_path / workers), "--workers", workers]
        assert main([*command, *only("digits-t1", "c1", "e3")]) == 0
    one, two = ([row | {"seconds": 0} for row in verdicts(tmp_path / workers)] for workers in ("1", "2"))
    assert one == two
    assert [row["id"] for row in two] == ["digits-t1", "c1", "e3"]


def test_a_repeated_id_runs_once(tmp_path):
    assert main(["reproduce", "--quick", "--out", str(tmp_path), *only("c1", "c1")]) == 0
    assert len(verdicts(tmp_path)) == 1


def test_a_refuted_claim_is_exit_code_1(tmp_path, capsys, monkeypatch):
    wrong = replace(theorems()["c1"], formula=theorems()["c1"].mutants["1 % lower"])
    monkeypatch.setitem(_THEOREMS, "c1", wrong)
    assert main(["reproduce", "--quick", "--out", str(tmp_path), *only("c1")]) == 1
    out = capsys.readouterr().out
    assert "REFUTED" in out
    assert "refuted: c1" in out
    assert verdicts(tmp_path)[0]["holds"] is False
    assert "refuted: c1" in (tmp_path / "report.html").read_text()


def test_an_error_in_a_check_keeps_what_is_finished(tmp_path, capsys, monkeypatch):
    def broken(theorem, quick):
        raise ValueError("the instance is broken")

    monkeypatch.setitem(_THEOREMS, "t2", replace(theorems()["t2"], check=broken))
    assert main(["reproduce", "--quick", "--out", str(tmp_path), *only("c1", "t2")]) == 2
    assert "the instance is broken" in capsys.readouterr().err
    assert [row["id"] for row in verdicts(tmp_path)] == ["c1"]


BAD = [
    (["reproduce", "--only", "trapp"], "no statement 'trapp'; nearest: trap"),
    (["reproduce", "--fast"], "reproduce: no option --fast; "),
    (["reproduse"], "no command 'reproduse'; nearest: reproduce"),
    (["reproduce", "--out"], "requires an argument"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_use_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("sharpmin: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said_before_anything_runs(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["reproduce", "--quick", "--out", str(out)]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert told.startswith(f"sharpmin: reproduce: cannot write to --out {out}: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_ctrl_c_keeps_what_is_finished(tmp_path):
    process = subprocess.Popen(
        [*SHARPMIN, "reproduce", "--out", str(tmp_path), *only("c1", "t2", "digits-t1")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # a job in the background ignores it
    )  # fmt: skip
    for _ in range(600):  # until both short ones are on disk and the long one runs
        time.sleep(0.1)
        if (tmp_path / "verdicts.json").exists() and len(verdicts(tmp_path)) == 2:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == f"sharpmin: interrupted after 2 of 3 statements; they are in {tmp_path}\n"
    assert [row["id"] for row in verdicts(tmp_path)] == ["c1", "t2"]
    assert "Interrupted after 2 of 3" in (tmp_path / "report.html").read_text()
    assert "c1" in out


def test_ids_in_any_case(tmp_path):
    assert main(["reproduce", "--quick", "--out", str(tmp_path), *only("C1")]) == 0
    assert [row["id"] for row in verdicts(tmp_path)] == ["c1"]


def test_an_early_interrupt_leaves_an_earlier_result_alone(tmp_path, capsys, monkeypatch):
    def interrupted(theorem, quick):
        raise KeyboardInterrupt

    assert main(["reproduce", "--quick", "--out", str(tmp_path), *only("c1")]) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setitem(_THEOREMS, "t2", replace(theorems()["t2"], check=interrupted))
    assert main(["reproduce", "--quick", "--out", str(tmp_path), *only("t2")]) == 130
    assert capsys.readouterr().err == "sharpmin: interrupted after 0 of 1 statements\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupt_while_a_command_is_imported(capsys, monkeypatch):
    import sharpmin.cli._app as app

    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "run", interrupted)
    assert main(["reproduce"]) == 130
    assert capsys.readouterr().err == "sharpmin: interrupted; nothing was written\n"


def test_an_interrupt_inside_an_import_does_not_kill_the_process_at_exit():
    code = (
        "from sharpmin.cli import _app, main; _app.run = lambda a: exec('raise KeyboardInterrupt'); raise SystemExit(main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "sharpmin: interrupted; nothing was written\n")


@pytest.mark.parametrize("arguments", [["list", "theorems"], ["--help"], ["--version"]])
def test_a_closed_pipe_is_not_a_refuted_claim(arguments):
    process = subprocess.Popen([*SHARPMIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.wait(timeout=120) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_target_that_is_a_folder(tmp_path, capsys):
    (tmp_path / "verdicts.json").mkdir()
    assert main(["reproduce", "--quick", "--out", str(tmp_path), *only("c1")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "verdicts.json is a folder there" in told
    assert [path.name for path in tmp_path.iterdir()] == ["verdicts.json"]


@pytest.mark.parametrize("name", ["a[/b]c", "[red]"])
def test_a_folder_named_like_markup(name, tmp_path, capsys):
    (tmp_path / name.split("/")[0]).mkdir(exist_ok=True)
    assert main(["reproduce", "--quick", "--out", str(tmp_path / name), *only("c1")]) == 0
    assert f"{tmp_path / name}/report.html" in capsys.readouterr().out


def test_a_narrow_terminal_cuts_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["reproduce", "--quick", "--out", str(tmp_path), *only("digits-t6-vacuous")]) == 0
    out = capsys.readouterr().out
    assert "digits-t6-vacuous  upper" in out
    assert "vacuous" in out.splitlines()[2]
    assert "…" not in out


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    assert "reproduce" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()
