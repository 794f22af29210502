"""The README's code runs, its table is what the command prints, and what it promises exists."""

import re
from pathlib import Path

from sharpmin.theory import theorems

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_examples_run_in_order(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 4
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "2 True" in printed  # two passes, stepped
    assert "[0.75 0.75]" in printed


def test_the_table_lists_every_statement():
    table = re.search(r"<!-- table: sharpmin reproduce -->\n```\n(.*?)```", README, flags=re.DOTALL)[1]
    rows = [line.split() for line in table.splitlines()[1:] if line.startswith("P")]
    assert [row[1] for row in rows] == list(theorems())
    assert {row[-1] for row in rows} == {"holds", "vacuous"}
    assert f"{len(rows)} statements" in table


def test_the_files_it_names_exist():
    for name in ("docs/decisions.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "constraints.txt", "LICENSE"):
        assert (ROOT / name).is_file(), name
