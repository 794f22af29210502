"""Every Python block of a page in docs/ runs, in order, and prints what its comments say."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PRINTED = {
    "migration.md": "0.02",
    "parts.md": "1",
    "plateau.md": "290 54\n54",
    "sharpness.md": "0.0: 0.04 0.09 1.2\n0.2: 0.03 0.06 0.7\n5 ± 0.3",
}


@pytest.mark.parametrize("page", PRINTED)
def test_the_page_runs(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some pages write files
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL):
        exec(compile(block, page, "exec"), namespace)
    assert capsys.readouterr().out.strip() == PRINTED[page]


def test_links_between_pages_lead_somewhere():
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
