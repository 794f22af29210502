"""A child ends with its parent, however that ends: nobody is left with half a gigabyte."""

import os
import signal
import subprocess
import sys
import time

import pytest

PARENTS = {
    "a pool of a sweep": """
from dataclasses import dataclass
from sharpmin.runs import compute

@dataclass(frozen=True)
class Task:
    id: int

def works(task):
    while True:
        sum(range(1000))

if __name__ == "__main__":
    list(compute(works, [Task(0), Task(1)], workers=2))
""",
    "ranks of a check": """
from sharpmin._check._workers import Workers
if __name__ == "__main__":
    workers = Workers(2)
    workers._start()
    import time
    time.sleep(600)
""",
}


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def commands(pids):
    """Those that still run, by their command."""
    found = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
            with open(f"/proc/{pid}/cmdline") as file:
                command = file.read().replace("\0", " ")
        except OSError:
            continue
        if state != "Z":
            found[pid] = command
    return found


def started(pid):
    """The processes that a parent has started for its work, and those that it forks them from."""
    own = commands(children(pid))
    servers = [child for child, command in own.items() if "forkserver" in command]
    spawned = [child for child, command in own.items() if "spawn_main" in command]
    forked = [child for server in servers for child, command in commands(children(server)).items() if "forkserver" in command]
    return spawned + forked, servers


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("who", PARENTS)
def test_nobody_is_left(who, how, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENTS[who])
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: sum(_threads(pid) > 1 for pid in started(parent.pid)[0]) == 2)  # they watch
        workers, servers = started(parent.pid)
        time.sleep(0.2)
    finally:
        parent.send_signal(how)
        parent.wait()
    until(lambda: not commands([*workers, *servers]), 20)


def _threads(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:  # a short helper of an import
        return 0
