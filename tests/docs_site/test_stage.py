"""A small repository: links between them stay, links to files lead to pages that show the files, others are refused."""

import pytest
from tools.docs.stage import stage

PAGE = """# Title

[page](sub/b.md#part), [script](../examples/run.py), [folder](../examples), [away](https://example.org), [here](#title)
`[code](no.md)`

```
[block](no.md)
```
"""


@pytest.fixture
def repository(tmp_path):
    texts = {
        "README.md": "[a](docs/a.md)",
        "CHANGELOG.md": "",
        "CONTRIBUTING.md": "[news](CHANGELOG.md)",
        "docs/a.md": PAGE,
        "docs/sub/b.md": "[up](../a.md) ![picture](../p.png)",
        "docs/p.png": "",
        "examples/run.py": "print(1)",
        "examples/other.py": "print(2)",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_links_lead_to_the_places_of_the_site(repository):
    out = repository / "out"
    stage(repository, out, {"made.md": "# Made"})
    here = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*.md")}
    assert here["index.md"] == "[a](a.md)"
    assert here["contributing.md"] == "[news](changelog.md)"
    assert here["made.md"] == "# Made"
    assert here["sub/b.md"] == "[up](../a.md) ![picture](../p.png)"
    led = "[page](sub/b.md#part), [script](files/examples/run.py.md), [folder](files/examples.md), [away]"
    assert here["a.md"] == PAGE.replace(PAGE.split("\n")[2], f"{led}(https://example.org), [here](#title)")
    assert "print(1)" in here["files/examples/run.py.md"]
    assert "print(2)" in here["files/examples/other.py.md"]  # the folder's page lists it
    assert "[other.py](examples/other.py.md)" in here["files/examples.md"]
    assert (out / "p.png").exists()


def test_what_was_there_before_is_gone(repository):
    (repository / "out").mkdir()
    (repository / "out" / "old.md").write_text("")
    stage(repository, repository / "out", {})
    assert not (repository / "out" / "old.md").exists()


def test_a_link_to_nothing_is_refused(repository):
    (repository / "docs" / "a.md").write_text("[gone](gone.md)")
    with pytest.raises(ValueError, match=r"^docs/a\.md: the link gone\.md leads nowhere; correct it, or create docs/gone\.md$"):
        stage(repository, repository / "out", {})
