"""The README's code runs and is short, the table of claims is what the command prints, and what they promise exists."""

import re
from pathlib import Path

import torch

from sharpmin.theory import theorems

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_examples_run_in_order(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 3
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "Run the toggle" in printed  # ten epochs are still on their way down
    assert "[0.75 0.75]" in printed


def test_it_can_be_read_in_a_minute():
    assert len(README.splitlines()) <= 120


def test_the_table_lists_every_statement():
    page = (ROOT / "docs" / "claims.md").read_text()
    table = re.search(r"<!-- table: sharpmin reproduce -->\n```\n(.*?)```", page, flags=re.DOTALL)[1]
    rows = [line.split() for line in table.splitlines()[1:] if line.startswith("P")]
    assert [row[1] for row in rows] == list(theorems())
    assert {row[-1] for row in rows} == {"holds", "vacuous"}
    assert f"{len(rows)} statements" in table


def test_the_files_it_names_exist():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    named = re.findall(r"\]\(([^)#]+)\)", prose) + re.findall(r"`(\w+(?:\.(?:md|txt|cff))?)`", prose.split("## More")[1])
    assert len(named) > 20
    for name in named:
        assert name.startswith("http") or (ROOT / name).exists(), name
