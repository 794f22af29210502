"""Logs that survive: cut off at any place, on a full disk, by two runs at once, of any size, and written by anybody."""

import contextlib
import errno
import json
import os
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics import JsonLines, Log
from sharpmin.diagnostics._run import log as log_module
from sharpmin.diagnostics._run.log import collect, read
from sharpmin.diagnostics._run.writers import WAITING

from ..watched_runs import blocks, steps_of


def run(path, steps, *, lr=0.1, opt=None, momentum=0.0):
    """A short watched run; returns the optimizer, to go on with."""
    if opt is None:
        w = nn.Parameter(torch.tensor([3.0, 1.0]))
        opt = sm.SAM(torch.optim.SGD([w], lr=lr, momentum=momentum), rho=0.1)
    probe = sm.watch(opt, to=path, every=1, block=2)
    w = opt.param_groups[0]["params"][0]
    steps_of(opt, lambda: 1.0 * (w**2).sum(), steps)
    probe.close()
    return opt


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_names_its_run_and_the_header_what_made_it(tmp_path):
    path = tmp_path / "run.jsonl"
    run(path, 4)
    rows = rows_of(path)
    assert [row["kind"] for row in rows] == ["run", "step", "step", "block", "step", "step", "block"]
    assert len({row["id"] for row in rows}) == 1
    assert (rows[0]["sharpmin"], rows[0]["torch"]) == (sm.__version__, torch.__version__)
    run(path, 1)
    assert len({row["id"] for row in rows_of(path)}) == 2


def test_a_log_that_is_cut_off_anywhere_loses_the_cut_row_only(tmp_path):
    """Every cut of the last two rows and of the header: what was whole stays, and the resumed run is read to its end."""
    path, cut = tmp_path / "run.jsonl", tmp_path / "cut.jsonl"
    opt = run(path, 3, momentum=0.9)
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    places = [*range(1, len(lines[0]) + 1), *range(len(data) - len(lines[-1]) - len(lines[-2]), len(data))]
    run(tmp_path / "more.jsonl", 3, opt=opt, momentum=0.9)
    more = (tmp_path / "more.jsonl").read_bytes().splitlines()
    for place in places[:: max(1, len(places) // 200)]:
        cut.write_bytes(data[:place])
        writer = JsonLines(cut)
        for line in more:
            writer(json.loads(line))
        writer.close()
        log = read(cut)
        assert log.run["momentum"] == 0.9
        assert [row["step"] for row in log.steps][-3:] == [3, 4, 5]
        kept = data[:place].splitlines()
        whole = [line for line in kept if line in [own.rstrip(b"\n") for own in lines]]
        assert len(log.steps) == 3 + sum(b'"kind": "step"' in line for line in whole)
        assert bool(log.remarks) == (len(whole) < len(kept))


def test_two_runs_at_once_in_one_file_are_told(tmp_path):
    one, two, both = (tmp_path / f"{name}.jsonl" for name in ("one", "two", "both"))
    run(one, 20)
    run(two, 20, lr=0.05)
    a, b = rows_of(one), rows_of(two)
    mixed = [row for pair in zip(a, b, strict=True) for row in pair]
    both.write_text("".join(json.dumps(row) + "\n" for row in mixed))
    log = read(both)
    assert [row["lr"] for row in log.steps] == [0.05] * 20
    assert log.remarks == [f"{len(a) - 1} rows of another run that wrote to the same file are left out; give each its own file"]


def test_a_run_that_is_resumed_goes_on(tmp_path):
    path = tmp_path / "run.jsonl"
    run(path, 4, opt=run(path, 4))
    log = read(path)
    assert ([row["step"] for row in log.steps], log.remarks) == (list(range(8)), [])


class Disk:
    """A file on a disk with so many bytes of room."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self.file.write(data[: self.room])
        self.room -= done
        return done

    def fileno(self):
        return self.file.fileno()


@pytest.mark.parametrize("room", [0, 1, 17, 39, 40, 41, 79, 80, 100])
def test_a_writer_comes_back_when_the_disk_has_room(room, tmp_path):
    writer = JsonLines(tmp_path / "run.jsonl")
    disk, written = Disk(writer._file, room), []
    writer._file = disk
    for step in range(6):
        row = {"kind": "step", "step": step, "gg": 1.0, "dg": 1.0, "dd": 1.0}
        if step == 4:
            disk.room = 10**6
        with contextlib.suppress(OSError):
            writer(row)
            written.append(step)
    log = read(tmp_path / "run.jsonl")
    assert [row["step"] for row in log.steps] == list(range(6))
    assert (written[-2:], writer.lost) == ([4, 5], 0)
    assert 3 not in written


def test_a_disk_that_stays_full_costs_bounded_memory():
    writer = JsonLines("/dev/full")
    for step in range(WAITING + 10):
        with pytest.raises(OSError, match="No space left"):
            writer({"kind": "step", "step": step})
    assert (len(writer._waiting), writer.lost) == (WAITING, 10)


def test_a_run_on_a_full_disk_goes_on_and_says_so_once(recwarn):
    run("/dev/full", 5)
    told = [str(w.message) for w in recwarn]
    assert len(told) == 1
    assert "a row could not be written to /dev/full: [Errno 28]" in told[0]


def test_a_log_of_any_size_takes_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "STEPS", 100)
    path = tmp_path / "run.jsonl"
    row = json.dumps({"kind": "step", "step": 0, "gg": 1.0, "dg": 1.0, "dd": 1.0, "rho": 0.1, "lr": 0.1})
    with path.open("w") as file:
        file.write('{"kind": "run", "version": 2}\n')
        for step in range(20_000):
            file.write(row.replace('"step": 0', f'"step": {step}') + "\n")
        file.write("x" * 30_000_000 + "\n" + row.replace('"step": 0', '"step": 20000'))
    tracemalloc.start()
    try:
        log = read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [row["step"] for row in log.steps] == list(range(19_901, 20_001))
    assert log.remarks == ["1 line could not be read and is left out (number 20002)"]
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "line", ["[" * 20_000, '{"a":' * 20_000, '{"kind": ["run"]}', '{"kind": "run", "version": 2, "id": []}']
)
def test_lines_that_break_a_parser_are_left_out(line, tmp_path):
    path = tmp_path / "run.jsonl"
    run(path, 2)
    path.write_text(path.read_text() + line + "\n")
    log = read(path)
    assert len(log.steps) == 2
    assert log.remarks == ["1 line could not be read and is left out (number 5)"]


@pytest.mark.parametrize("key", ["step", "gg", "first", "n", "norm_g"])
@pytest.mark.parametrize("value", ["3", True, None, [1], {}, "nan"])
def test_a_number_of_another_kind_spoils_its_row_alone(key, value, tmp_path):
    path = tmp_path / "run.jsonl"
    run(path, 6)
    rows = rows_of(path)
    at = next(i for i, row in enumerate(rows) if key in row and row["kind"] != "run")
    rows[at] |= {key: value}
    log = collect(map(json.dumps, rows), "run.jsonl")
    assert len(log.steps) + len(log.blocks) >= 8
    assert [row["step"] for row in log.steps][-3:] == [3, 4, 5]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["nan", "inf", "run", "step", "block"]),
    lambda own: st.lists(own, max_size=4) | st.dictionaries(st.text(max_size=8), own, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    return blocks(tmp_path_factory.mktemp("logs") / "run.jsonl", count=6).read_text().splitlines()


def verdict_or_error(texts):
    """What a reader is told."""
    try:
        return str(sm.diagnose(collect(texts, "run.jsonl")))
    except ValueError as error:
        said = str(error)
    assert said.startswith(("diagnose: ", "run.jsonl: "))
    return said


KEYS = [
    "kind",
    "step",
    "gg",
    "dg",
    "dd",
    "rho",
    "lr",
    "loss",
    "first",
    "last",
    "n",
    "steps",
    "norm_g",
    "g",
    "d",
    "pd",
    "lag",
    "id",
]
CHANGES = st.lists(st.tuples(st.integers(0, 306), st.sampled_from(KEYS) | st.text(max_size=8), JSON), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(changes=CHANGES)
def test_whatever_is_in_a_log_there_is_a_verdict_or_one_clear_error(lines, changes):
    """Rows with anything in any place: nothing but printable text comes out, and no other error than `ValueError`."""
    rows = [json.loads(line) for line in lines]
    for at, key, value in changes:
        rows[at][key] = value
    said = verdict_or_error(map(json.dumps, rows))
    assert said.replace("\n", "").isprintable()


@settings(max_examples=200, deadline=None)
@given(text=st.text() | st.binary().map(lambda data: data.decode("utf-8", errors="replace")))
def test_text_of_any_kind_is_no_log(text):
    with pytest.raises(ValueError, match="no line is a row of a watched run"):
        collect(text.splitlines(), "run.jsonl")


def test_a_log_in_memory_is_no_other_run():
    log = Log()
    for step in range(3):
        log.add({"kind": "step", "step": step, "id": "a"})
    assert (len(log.steps), log.remarks) == (3, [])
