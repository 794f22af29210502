"""Whatever happens to the standard streams, 1 means a refuted claim or a failed family, and nothing else."""

import subprocess
import sys

import pytest

COMMANDS = {
    "version": (["--version"], 0),
    "list": (["list", "theorems"], 0),
    "unknown": (["nope"], 2),
    "failed": (["check", "streams_case:Sam", "--only", "golden-step"], 1),
}
STREAMS = {">&-": None, "2>&-": None, ">&- 2>&-": None, "<&- >&- 2>&-": None, ">/dev/full": 2, "2>/dev/full": None}


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("command", COMMANDS)
def test_exit_codes(command, streams, tmp_path):
    arguments, code = COMMANDS[command]
    (tmp_path / "streams_case.py").write_text("import sharpmin\nclass Sam(sharpmin.SAM):\n    def restore(self): pass\n")
    line = f'exec "$0" -m sharpmin "$@" {streams}'
    done = subprocess.run(["sh", "-c", line, sys.executable, *arguments], cwd=tmp_path, capture_output=True, check=False)
    expected = 2 if STREAMS[streams] and command != "unknown" else code
    assert done.returncode == expected
    assert b"Traceback" not in done.stderr
