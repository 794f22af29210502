"""The same rows from this process, a pool and a cluster; whatever fails, what is finished comes out once."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from tests.runs.tasks import Task, alone_in_its_process, blocked, dies, draw, of_another_version, raises, surroundings

from sharpmin.core.errors import MissingExtraError
from sharpmin.core.extras import optional
from sharpmin.runs import Stopped, _cluster, compute

PLACES = ("here", "pool", "cluster")


@pytest.fixture
def where(request):
    """Where to compute, as keywords; the cluster is started for those tests alone that ask for it."""

    def place(name):
        if name == "cluster":
            return {"scheduler": request.getfixturevalue("cluster").scheduler_address}
        return {} if name == "here" else {"workers": 2}

    return place


def tasks(folder="", count=6):
    return [Task(number, str(folder)) for number in range(count)]


def collect(rows, into, after=0, act=None):
    """Numbers as they come, so that they are there when the next one is an error; something is done after so many."""
    for row in rows:
        into.append(row["id"]["number"])
        if len(into) == after:
            act()


def without_seconds(rows):
    return {str(row["id"]): {k: v for k, v in row.items() if k != "seconds"} for row in rows}


def test_rows_are_the_same_bit_for_bit_wherever_they_are_computed(where):
    by_hand = without_seconds(map(draw, tasks()))
    for place in PLACES:
        rows = list(compute(draw, [*tasks(), *tasks()], **where(place)))
        assert len(rows) == len(tasks())
        assert without_seconds(rows) == by_hand


def test_one_thread_while_it_runs_and_as_many_as_before_afterwards():
    torch.set_num_threads(2)
    try:
        assert [row["threads"] for row in compute(draw, tasks(count=2))] == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_workers_have_the_environment_of_the_moment(monkeypatch):
    """Though they may be forked from a server that began with another."""
    for value in ("1", "2"):
        monkeypatch.setenv("SHARPMIN_TESTED", value)
        (row,) = compute(surroundings, tasks(count=1), workers=2)
        assert row["environment"]["SHARPMIN_TESTED"] == value
    monkeypatch.delenv("SHARPMIN_TESTED")
    (row,) = compute(surroundings, tasks(count=1), workers=2)
    assert "SHARPMIN_TESTED" not in row["environment"]


def test_what_does_without_torch_loads_none(tmp_path):
    code = """
import sys
from dataclasses import dataclass, asdict
from sharpmin.runs import compute
@dataclass(frozen=True)
class Task:
    number: int
    id = property(asdict)
def loaded(task):
    return {"id": task.id, "torch": "torch" in sys.modules}
if __name__ == "__main__":
    for uses_torch in (False, True):
        for workers in (2, 1):
            (row,) = compute(loaded, [Task(0)], workers=workers, uses_torch=uses_torch)
            assert row["torch"] is uses_torch, (workers, uses_torch)
"""
    (tmp_path / "loads.py").write_text(code)
    subprocess.run([sys.executable, tmp_path / "loads.py"], check=True)


def test_a_process_runs_one_task_at_a_time(threads):
    address = threads(n_workers=1, threads_per_worker=4).scheduler_address
    assert {row["alone"] for row in compute(alone_in_its_process, tasks(count=12), scheduler=address)} == {True}


@pytest.mark.parametrize("place", PLACES)
def test_a_task_that_raises_is_named_after_what_is_finished(place, where):
    numbers, line = [], r'the run \{"number": 3, "folder": ""\} failed: ZeroDivisionError: a third line'
    with pytest.raises(Stopped, match=f"^{line}$"):
        collect(compute(raises, tasks(count=4), **where(place)), numbers)
    assert len(set(numbers)) == len(numbers)
    assert place != "here" or numbers == [0, 1, 2]


def killed(folder):
    for _ in range(2400):
        if (folder / "pid").exists():
            os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
            return int((folder / "pid").read_text())
        time.sleep(0.025)
    raise TimeoutError


def test_what_a_killed_worker_of_a_cluster_had_runs_again_elsewhere(where, tmp_path):
    rows = compute(blocked, tasks(tmp_path, count=8), **where("cluster"))
    first = next(rows)
    pid = killed(tmp_path)
    found = [first, *rows]
    assert sorted(row["id"]["number"] for row in found) == list(range(8))
    assert {row["pid"] for row in found if row["id"]["number"] == 0}.isdisjoint({pid})


def test_a_killed_process_of_a_pool_ends_the_sweep_after_what_is_finished(tmp_path):
    found = []
    with pytest.raises(Stopped, match="a process was killed, perhaps for its memory"):
        collect(compute(blocked, tasks(tmp_path), workers=2), found, 1, lambda: killed(tmp_path))
    assert found
    assert 0 not in found
    assert len(set(found)) == len(found)


def test_a_task_that_kills_every_worker_is_named(where, cluster, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(Stopped, match=r'several workers died, .* while they had the run \{"number": 7, "folder": ""\}'):
        list(compute(dies, [Task(7)], **where("cluster")))


@pytest.mark.parametrize("place", ["here", "cluster"])
def test_a_row_of_another_version_is_refused(place, where):
    with pytest.raises(Stopped, match=r"number: -1 there, 0 here, sharpmin: '0.0' there, None here.*same sharpmin"):
        list(compute(of_another_version, tasks(count=1), **where(place)))


def test_a_cluster_without_workers_is_waited_for_and_it_is_said_once(threads, monkeypatch):
    monkeypatch.setattr(_cluster, "QUIET", 0.05)
    empty, said = threads(n_workers=0), []

    def tell(line):
        said.append(line)
        time.sleep(0.2)
        empty.scale(1)

    assert len(list(compute(draw, tasks(), scheduler=empty.scheduler_address, tell=tell))) == 6
    assert said == [f"no worker is connected to {empty.scheduler_address}; waiting for one, Ctrl-C keeps what is finished"]


def test_closing_early_cancels_what_has_not_begun(threads):
    ours = threads(n_workers=1, threads_per_worker=1)
    rows = compute(alone_in_its_process, tasks(count=400), scheduler=ours.scheduler_address)
    next(rows)
    rows.close()
    for _ in range(400):
        if not ours.scheduler.tasks:
            break
        time.sleep(0.025)
    assert not ours.scheduler.tasks


def test_nobody_at_the_address(nobody, monkeypatch):
    monkeypatch.setattr(_cluster, "CONNECT", 0.5)
    with pytest.raises(Stopped, match=f"no Dask scheduler answers at {nobody} .*dask scheduler"):
        list(compute(draw, tasks(), scheduler=nobody))


def test_what_cannot_be_is_refused_before_the_first_row(monkeypatch):
    with pytest.raises(ValueError, match="workers=0: there must be at least one"):
        compute(draw, [], workers=0)
    with pytest.raises(ValueError, match=r"workers=2 and scheduler='tcp://a:1': .* leave one of them out"):
        compute(draw, [], workers=2, scheduler="tcp://a:1")
    with pytest.raises(ValueError, match=r"'host:8786' is no address of a Dask scheduler; write it as tcp://host:8786"):
        compute(draw, [], scheduler="host:8786")
    monkeypatch.setattr(_cluster, "distributed", optional("no_such_distributed", extra="cluster"))
    with pytest.raises(MissingExtraError, match=r"pip install 'sharpmin\[cluster\]'"):
        compute(draw, [], scheduler="tcp://host:8786")


def test_nothing_of_dask_is_loaded_without_a_scheduler():
    code = "import sys; from sharpmin.runs import compute; list(compute(print, [])); print({'dask'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
