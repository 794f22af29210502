"""The page: self-contained, well formed, escaped; statements, instances and settings linked."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sharpmin.report import build, page
from sharpmin.report._markup import markup
from sharpmin.theory import CLAIMS, theorems

from .conftest import Known, verdict

VOID = {"meta", "br", "img", "input", "link", "hr", "col", "path", "circle"}
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>&amp;</pre>'


class Reader(HTMLParser):
    """Checks nesting; collects tags with attributes, ids and the text outside scripts and styles."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack, f"</{tag}> without a start"
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def values(self, name):
        return [attrs[name] for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def full(verdicts, plates, cells):
    return page(verdicts, CLAIMS, "", figures=list(plates.values()), settings=cells)


@pytest.fixture(scope="module")
def reader(full):
    return Reader(full)


def test_it_is_one_file_that_fetches_nothing(full, reader):
    assert len(full.encode()) < 8e6
    assert full.startswith("<!doctype html>")
    for target in reader.values("src") + reader.values("href") + reader.values("action"):
        assert target.startswith(("#", "https://arxiv.org/", "https://doi.org/")), target
    assert not [tag for tag, _ in reader.tags if tag in ("link", "img", "iframe", "object", "embed", "base")]
    style = re.search(r"<style>(.*?)</style>", full, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for t, a in reader.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_plotly_is_embedded_once_and_only_with_figures(full, verdicts):
    assert full.count('id="plotly"') == 1
    plain = page(verdicts, CLAIMS)
    assert 'id="plotly"' not in plain
    assert len(plain.encode()) < 300_000
    assert Reader(plain).text.count("all hold") == 1


def test_ids_are_unique_and_every_link_leads_somewhere(reader):
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    assert {h[1:] for h in reader.values("href") if h.startswith("#")} <= set(ids)


def test_every_statement_has_its_page_source_and_instances(reader, full):
    ids = set(reader.values("id"))
    for id_, theorem in theorems().items():
        assert f"statement-{id_}" in ids
        assert markup(theorem.statement) in full
        row = full.split(f'id="statement-{id_}"')[1].split("</tbody>")[0]
        source = Path(__file__).parents[2] / re.search(r"<code>(src/sharpmin/theory/_theorems/\w+\.py)</code>", row)[1]
        assert theorem.statement.splitlines()[0] in source.read_text()
    row = full.split('id="statement-t6"')[1].split("</tbody>")[0]
    assert {'href="#problem-e3"', 'href="#problem-quadratic"'} <= set(re.findall(r'href="#problem-\w+"', row))
    assert 'href="#problem-digits"' in full.split('id="statement-digits-t1"')[1].split("</tbody>")[0]
    assert "<code>src/sharpmin/theory/_problems/trap.py</code>" in full.split('id="problem-trap"')[1].split("</article>")[0]


def test_a_statement_of_two_claims_is_under_both_and_its_page_under_one(full):
    sections = {c: full.split(f'<section id="{c}">')[1].split("</section>")[0] for c in CLAIMS}
    assert [c for c, text in sections.items() if "<b>e3</b>" in text] == ["P4", "P5"]
    assert full.count('id="statement-e3"') == 1
    assert 'the statement is under <a href="#statement-e3">P4</a>' in sections["P5"].lower().replace("p4", "P4")


def test_figures_are_with_their_claims_and_the_trajectories_on_top(full, plates):
    assert full.index('id="trajectories"') < full.index('<section id="P1">')
    for plate in plates.values():
        assert full.count(f'<figure class="plate" id="{plate.id}">') == 1
        assert plate.sentence in full
        if plate.id != "trajectories":
            section = full.split(f'<section id="{plate.claims[0]}">')[1].split("</section>")[0]
            assert f'id="{plate.id}"' in section
        for claim in plate.claims[1:]:
            assert f'href="#{plate.id}"' in full.split(f'<section id="{claim}">')[1].split("</section>")[0]


def test_verdicts_in_words_and_numbers():
    rows = [
        verdict("c1", holds=False, measured=float("nan"), bound=float("inf"), relation=">="),
        verdict("t1", vacuous=True, standard_error=0.002, n_cells=1234),
    ]
    reader = Reader(page(rows, CLAIMS, "Interrupted: 2 of 3 statements were checked."))
    text = reader.text
    assert "refuted: c1" in text
    assert "all hold" not in text
    assert "Interrupted: 2 of 3" in text
    for part in ("nan", "≥", "∞", "vacuous", "±\u20090.002", "1,234 comparisons", "1.25\u2009×\u200910−7"):
        assert part in "".join(reader.words)


def test_hostile_text_stays_text(plates):
    rows = [verdict("c1", title=HOSTILE, instance=HOSTILE, kind=HOSTILE), replace(verdict("nobody"), id=HOSTILE)]
    settings = [Known("m-sam", "convex", "constant", (HOSTILE,), HOSTILE, note=HOSTILE)]
    figure = plates["floors"].panels[0][1]
    drawn = type(figure)(figure).update_layout(title=HOSTILE)
    plate = replace(plates["floors"], title=HOSTILE, sentence=HOSTILE, panels=((HOSTILE, drawn),))
    found = Reader(page(rows, CLAIMS | {"P1": HOSTILE}, HOSTILE, figures=[plate], settings=settings))
    assert not [tag for tag, _ in found.tags if tag == "img"]
    assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on")]
    assert len([tag for tag, _ in found.tags if tag == "script"]) == 4  # one figure, palette, plotly, the page's own
    assert found.text.count("<script>alert(2)</script>") >= 9


def test_an_empty_report_is_a_page():
    assert "0" in Reader(page([], CLAIMS)).text


def test_settings_are_a_grid_of_oracle_and_setting_against_radius(full):
    table = full.split('<table class="settings">')[1].split("</table>")[0]
    heads = re.findall(r'<th scope="col">(.*?)</th>', table)
    assert heads == ["oracle, setting", "constant ρ", "decaying ρ", "clipped"]  # radii of which something is known
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)[1:]
    assert [re.search(r'<th scope="row">(.*?)<span>(.*?)</span>', r).groups() for r in rows] == [
        ("deterministic", "strongly convex"), ("m-SAM", "nonconvex"),
    ]  # fmt: skip
    first, second = ([Reader(f"<td{c}</td>") for c in re.findall(r"<td(.*?)</td>", r, re.DOTALL)] for r in rows)
    assert first[0].text.replace(" ", "") == "✓β2/T2run1.5×10−9,ratio0.5t1"
    assert first[1].text.replace(" ", "") == "✓measuredrun0"  # not proved, so marked
    assert [c.text.replace(" ", "") for c in second] == ["✕<i>floor</i>run0.7,ratio1t5,e5", "–", "no<b>statement</b>isknown"]
    assert "#statement-t5" in second[0].values("href")


def test_page_is_pure(verdicts, plates, cells, full):
    assert page(verdicts, CLAIMS, "", figures=list(plates.values()), settings=cells) == full


def test_build_does_it_all(verdicts):
    text = build(verdicts, quick=True, note="a note")
    assert "a note" in text
    assert text.count('class="plot"') == 18
    assert len(re.findall(r'<th scope="row">(?:deterministic|m-SAM|n-SAM)', text)) == 12


def test_light_markdown():
    blocks = [
        ("Title, rho_t.", "<p>Title, ρ<sub>t</sub>.</p>"),
        ("**Bold.** `a<b` and\nmore:", "<p><strong>Bold.</strong> <code>a&lt;b</code> and more:</p>"),
        ("    x^2 <= 1", "<pre>x<sup>2</sup> ≤ 1</pre>"),
        ("after", "<p>after</p>"),
        ("```\nfenced & kept\n\n  so\n```", "<pre>fenced &amp; kept\n\n  so</pre>"),
        ("- one\n- two", "<ul><li>one</li><li>two</li></ul>"),
    ]
    assert markup("\n\n".join(text for text, _ in blocks)) == "\n".join(html for _, html in blocks)


def test_a_problem_of_ones_own_gets_a_section(verdicts):
    from sharpmin import theory

    f = theory.own(value=lambda x: 2 * x @ x, gradient=lambda x: 4 * x, name="<bowl>", dim=2, beta=3.9, mu=3.9, f_star=0.0)
    examined = theory.examine(f, x0=[1.0, -1.0], steps=20)
    text = page(verdicts, CLAIMS, own=[examined])
    section = text[text.index('<section id="own">') :].split("</section>")[0]
    assert "&lt;bowl&gt;" in section
    assert [c.name for c in examined.wrong] == ["beta"]
    assert section.count("wrong</span>") == 1
    assert section.count('class="relation"') == len(examined.bounds) > 0
    assert all(reason in html.unescape(section) for reason in examined.silent)
    assert '<section id="own">' not in page(verdicts, CLAIMS)
