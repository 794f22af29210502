"""The file of rows under a full disk and several writers: no torn row counts, no counted one is lost, none counts twice."""

import resource
from contextlib import contextmanager

import pytest
from tests.runs.tasks import Task, appends

from sharpmin.runs import Store, compute


def row(number):
    return {"id": Task(number).id, "value": number / 3}


@contextmanager
def disk_of(size):
    """No file grows beyond so many bytes: the last write is cut off there, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 50, -1])
def test_a_full_disk_counts_no_torn_row_and_the_next_one_goes_on(room, tmp_path):
    path, wanted = tmp_path / "rows.jsonl", [Task(number) for number in range(3)]
    store = Store(path)
    store.add(row(0))
    line = path.stat().st_size
    with disk_of(line + room % line), pytest.raises(OSError, match="File too large"):
        store.add(row(1))
    assert path.stat().st_size == line + room % line  # it was cut off there
    assert list(store.known(wanted)) == list(Store(path).known(wanted)) == wanted[:1]
    store.add(row(1))
    Store(path).add(row(2))
    assert list(store.known(wanted)) == wanted[:2]  # the last one is another command's
    assert Store(path).known(wanted) == {task: row(task.number) for task in wanted}


def test_a_run_that_is_there_is_not_written_again(tmp_path):
    first, second = Store(tmp_path / "rows.jsonl"), Store(tmp_path / "rows.jsonl")
    first.add(row(1))
    text = first.path.read_text()
    first.add({**row(1), "value": 0.0})
    assert first.path.read_text() == text
    second.add({**row(1), "value": 0.0})  # it has not seen the first one's
    assert Store(first.path).known([Task(1)]) == first.known([Task(1)])  # the first one counts


def test_two_commands_at_once_mix_no_lines(tmp_path):
    assert len(list(compute(appends, [Task(0, str(tmp_path)), Task(1, str(tmp_path))], workers=2))) == 2
    store, wanted = Store(tmp_path / "rows.jsonl"), [Task(number) for number in range(50)]
    assert list(store.known(wanted)) == wanted
    assert len(store.path.read_text().splitlines()) <= 60
