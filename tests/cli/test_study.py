"""`sharpmin study` as a user meets it: a table in 80 columns, files, exit codes, Ctrl-C that loses nothing."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import pytest
import xarray
from distributed import Client

from sharpmin.cli import _progress, main
from sharpmin.core.extras import optional
from sharpmin.runs import Stopped
from sharpmin.study import METHODS, SETTINGS, Cell, _samples, run
from sharpmin.study._methods import title

from ..study.tiny import CODE, JUDGED, TRIALS, only, shrink

SIZES = (TRIALS, JUDGED)
"""Of the two sweeps of a study with one seed."""


@pytest.fixture
def tiny(monkeypatch):
    shrink(monkeypatch)
    monkeypatch.setattr(_progress, "APART", 0)  # every line, however fast the machine is


def study(out, *more):
    return main(["study", "digits", "--seeds", "1", "--workers", "1", "--out", str(out), *more])


def stopped_by(monkeypatch, error):
    monkeypatch.setattr("sharpmin.runs.compute", lambda *_, **__: (_ for _ in ()).throw(error))


def test_table_files_and_json(tiny, tmp_path, capsys, monkeypatch):
    out = tmp_path / "new" / "out"
    assert study(out) == 0
    said = capsys.readouterr()
    told = [
        re.fullmatch(r"digits, (trials|seeds): (\d+) of (\d+) runs, ([^,]+ s, about )?[^,]+ s( to go)?", line)
        for line in said.err.splitlines()
    ]
    assert {line[1]: int(line[3]) for line in told} == dict(zip(("trials", "seeds"), SIZES, strict=True))
    assert [int(line[2]) for line in told if line[1] == "seeds"] == list(range(1, JUDGED + 1))
    lines = said.out.splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[-1] == f"See {out}/study-digits.html"
    for name in METHODS:
        head = re.escape(title(name, SETTINGS["digits"]))
        assert sum(re.match(rf"{head} +\d\.\d\d ", line) is not None for line in lines) == 2
    assert "…" not in said.out
    files = [f"study-digits.{suffix}" for suffix in ("csv", "html", "jsonl", "tex")]
    assert sorted(p.name for p in out.iterdir()) == files
    rows = [json.loads(line) for line in (out / "study-digits.jsonl").read_text().splitlines()]
    assert len(rows) == sum(SIZES)
    monkeypatch.setitem(SETTINGS, "digits", replace(SETTINGS["digits"], seconds=2.0))  # of what is finished no time is said
    assert study(out, "--json", "--export", str(out / "runs.zarr")) == 0
    said = capsys.readouterr()
    assert said.err == ""  # nothing was left to do
    with xarray.open_zarr(out / "runs.zarr") as runs:
        for row in rows:
            one = runs.sel({name: row["id"][name] for name in runs.dims})
            assert (one.accuracy, one.passes) == (row["accuracy"], row["passes"])
        assert dict(runs.sizes)["method"] == len(METHODS)
    record = json.loads(said.out)
    assert [record[k] for k in ("study", "seeds", "steps")] == ["digits", 1, 10]
    judged = [row for row in rows if row["id"]["seed"] == 0]
    assert [line["accuracy"]["mean"] for line in record["lines"] if line["method"] == "sam"] == [
        row["accuracy"] for row in judged if row["id"]["method"] == "sam"
    ]
    assert len((out / "study-digits.jsonl").read_text().splitlines()) == len(rows)  # nothing was computed again


def test_all_is_every_study_one_after_the_other(tiny, tmp_path, capsys, monkeypatch):
    only(monkeypatch, SETTINGS, ["digits", "breast-cancer"])
    monkeypatch.setitem(SETTINGS, "breast-cancer", replace(SETTINGS["breast-cancer"], epochs=1))
    assert main(["study", "all", "--seeds", "1", "--workers", "1", "--out", str(tmp_path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [one["study"] for one in record] == ["digits", "breast-cancer"]
    assert len(list(tmp_path.iterdir())) == 8


def test_a_long_study_says_its_time_first(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SETTINGS, "digits", replace(SETTINGS["digits"], seconds=2.0))
    stopped_by(monkeypatch, KeyboardInterrupt())
    assert study(tmp_path) == 130
    said = capsys.readouterr().err
    passes = (10 + 20 + 20 + 40 / 3) * 2 * (4 * 2 + 1)  # of four methods at 10 steps, clean and noisy, trials and a seed
    assert said.startswith(f"digits: 72 runs, about {2 * passes / 60:.0f} minutes at most; Ctrl-C keeps what is finished.\n")
    assert f"sharpmin: interrupted; 0 of {TRIALS} runs are in " in said


def test_a_run_that_is_on_the_disk_counts_when_ctrl_c_comes_while_it_is_synced(tiny, tmp_path, capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sharpmin.runs._store.os.fsync", interrupted)
    assert study(tmp_path) == 130
    assert f"sharpmin: interrupted; 1 of {TRIALS} runs are in " in capsys.readouterr().err
    assert len((tmp_path / "study-digits.jsonl").read_text().splitlines()) == 1


def test_a_study_that_goes_on_counts_on_and_leaves_the_json_alone(tiny, tmp_path, capsys):
    assert study(tmp_path, "--json") == 0
    whole, rows = json.loads(capsys.readouterr().out), tmp_path / "study-digits.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-3]))
    assert study(tmp_path, "--json") == 0
    said = capsys.readouterr()
    again = json.loads(said.out)
    for record in (whole, again):
        for line in record["lines"]:
            del line["seconds"]
    assert again == whole
    assert [line.split(",")[1] for line in said.err.splitlines()] == [
        f" seeds: {n} of {JUDGED} runs" for n in range(JUDGED - 2, JUDGED + 1)
    ]


def test_a_killed_process_is_one_line(tiny, tmp_path, capsys, monkeypatch):
    stopped_by(monkeypatch, Stopped("a process was killed, perhaps for its memory"))
    assert study(tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"sharpmin: study: a process was killed, perhaps for its memory; 0 of {TRIALS} runs are in ")
    assert said.count("\n") == 1


# A pytest that was started in the background hands an ignored SIGINT down, and Python would leave it ignored.
SHARPMIN = "import signal, sys; signal.signal(2, signal.default_int_handler); import sharpmin.cli as c; sys.exit(c.main())"


@pytest.fixture
def started():
    """Starts the command in a session of its own; whatever happens, none of its processes outlives the test."""
    begun = []

    def start(*arguments, code=""):
        process = subprocess.Popen(
            [sys.executable, "-c", code + SHARPMIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield start
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def different_here(row):
    """What the same run gives in this process, where it differs."""
    here = run(Cell(*(row["id"][k] for k in ("data", "method", "noise", "seed", "lr", "rho"))))
    return {k: (row[k], v) for k, v in here.items() if k != "seconds" and row[k] != v}


def test_ctrl_c_keeps_what_is_finished_and_leaves_no_process(started, tmp_path):
    process, rows = started("study", "--out", str(tmp_path)), tmp_path / "study-digits.jsonl"
    until(lambda: lines(rows) >= 1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the processes of the pool as well
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    finished = lines(rows)
    whole = (len(METHODS) - 1) * 12 * 2 * 2
    assert err.splitlines()[-1] == (
        f"sharpmin: interrupted; {finished} of {whole} runs are in {rows}, and the same command goes on from there"
    )
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):  # noqa: PT012  # the last of them need a moment
        for _ in range(200):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    assert different_here(json.loads(rows.read_text().splitlines()[0])) == {}  # what a process of the pool computed


def lines(file):
    return file.read_text().count("\n") if file.exists() else 0


def until(condition, seconds=240.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def dask(tmp_path):
    """A scheduler and a worker of somebody else, as processes; gives the scheduler's address and process."""
    file = tmp_path / "scheduler.json"
    (tmp_path / "tiny.py").write_text(CODE)
    common, begun = ["--scheduler-file", str(file)], []
    for name, options in {
        "scheduler": ["--host", "tcp://127.0.0.1", "--port", "0", "--no-dashboard"],
        "worker": ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--preload", str(tmp_path / "tiny.py")],
    }.items():
        command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *options, *common]
        begun.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        until(file.exists)
    yield json.loads(file.read_text())["address"], begun[0]
    for process in begun:
        process.kill()
        process.wait()


def test_on_a_cluster_ctrl_c_cancels_and_a_lost_scheduler_is_one_line(tiny, started, dask, tmp_path):
    (address, scheduler), rows = dask, tmp_path / "study-digits.jsonl"
    command = ("study", "--seeds", "20", "--scheduler", address, "--out", str(tmp_path))
    kept = f"of {TRIALS} runs are in {rows}, and the same command goes on from there"
    first = started(*command, code=CODE)
    until(lambda: lines(rows) >= 1)
    os.killpg(first.pid, signal.SIGINT)
    out, err = first.communicate(timeout=60)
    finished = lines(rows)
    assert (first.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"sharpmin: interrupted; {finished} {kept}"
    with Client(address) as client:
        until(lambda: not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))
    second = started(*command, code=CODE)
    until(lambda: lines(rows) > finished)
    scheduler.kill()
    out, err = second.communicate(timeout=120)
    assert (second.returncode, out) == (2, "")
    assert (
        err.splitlines()[-1] == f"sharpmin: study: the connection to the scheduler at {address} was lost; {lines(rows)} {kept}"
    )
    assert "Traceback" not in err
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len({json.dumps(row["id"]) for row in found}) == len(found) == lines(rows)
    assert [different_here(row) for row in found] == [{}] * len(found)


def test_a_full_disk_is_one_line_and_the_next_start_goes_on(tiny, tmp_path, capsys):
    rows, before = tmp_path / "study-digits.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        assert study(tmp_path) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err.splitlines()
    whole = lines(rows)
    assert whole >= 1
    assert said[-1] == (
        f"sharpmin: study: a finished run could not be written: File too large; {whole} of {TRIALS} runs are in {rows}, "
        "and the same command goes on from there"
    )
    assert study(tmp_path) == 0
    assert lines(rows) == sum(SIZES) + 1  # and the torn one


BAD = [
    (["study", "digit"], "study: no data set 'digit'; nearest: digits"),
    (["study", "--seeds", "0"], "--seeds"),
    (["study", "--workers", "x"], "--workers"),
    (["study", "--scheduler", "host:8786"], "'host:8786' is no address of a Dask scheduler; write it as tcp://host:8786"),
    (["study", "--export", "runs.csv"], "--export: runs.csv must end in .zarr"),
    (["study", "--jobs", "3"], "--jobs is called --workers now; for example: --workers 3"),
    (["study", "--workers", "2", "--scheduler", "tcp://host:8786"], "--workers and --scheduler cannot both be given"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_use_is_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert (said.count("\n"), list(tmp_path.iterdir())) == (1, [])


def test_a_place_that_cannot_be_written_and_a_package_that_is_missing(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    assert study(tmp_path / "file") == 2
    assert capsys.readouterr().err.startswith(f"sharpmin: study: cannot write to --out {tmp_path / 'file'}: ")
    monkeypatch.setattr(_samples, "mnist1d_data", optional("no_such_mnist1d.data", extra="study"))
    _samples.mnist1d.cache_clear()
    assert main(["study", "mnist1d", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("pip install 'sharpmin[study]'\n")
