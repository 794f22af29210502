"""Whatever happens to the standard streams, 1 means a refuted claim or a failed family, and nothing else."""

import subprocess
import sys

import pytest

CLAIM = ["--method", "sam", "--assumptions", "strongly-convex", "--quantity", "gap", "--budget", "10", "--workers", "1"]
COMMANDS = {
    "version": (["--version"], 0),
    "list": (["list", "theorems"], 0),
    "unknown": (["nope"], 2),
    "refuted": (["refute", "own.py:hopeful", *CLAIM], 1),
}
STREAMS = {">&-": None, "2>&-": None, ">&- 2>&-": None, "<&- >&- 2>&-": None, ">/dev/full": 2, "2>/dev/full": None}


CASES = [(command, streams) for command in COMMANDS for streams in STREAMS if command != "refuted"]
CASES += [("refuted", streams) for streams in (">&- 2>&-", ">/dev/full")]  # which takes seconds


@pytest.mark.parametrize(("command", "streams"), CASES)
def test_exit_codes(command, streams, tmp_path):
    arguments, code = COMMANDS[command]
    (tmp_path / "own.py").write_text("def hopeful(*, beta, mu, steps, delta, lr):\n    return (1 - mu * lr) ** steps * delta\n")
    line = f'exec "$0" -m sharpmin "$@" {streams}'
    done = subprocess.run(["sh", "-c", line, sys.executable, *arguments], cwd=tmp_path, capture_output=True, check=False)
    expected = 2 if STREAMS[streams] and command != "unknown" else code
    assert done.returncode == expected
    assert b"Traceback" not in done.stderr
