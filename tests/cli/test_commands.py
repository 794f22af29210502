"""list, simulate, plan and cite as a user meets them: output that equals the library's, one line for every error."""

import csv
import json
import re
import subprocess
import sys

import pytest
import xarray as xr

from sharpmin.cli import main
from sharpmin.cli._schedules import LR, RHO, number_or_schedule
from sharpmin.core.canon import CANON
from sharpmin.core.rho import Capped, Constant, Cosine, Every, InverseSqrt, ProportionalToLR, Unnormalized
from sharpmin.optim.variants import variants
from sharpmin.theory import InverseTime, plan, problems, simulate, theorems

from ..latex_by_hand import complaints

TRAP = ["simulate", "trap", "--set", "theta=0.125", "--set", "beta=2", "--set", "rho=0.5"]
TRAP_RUN = [*TRAP, "--lr", "0.25", "--rho", "0.5", "--steps", "400", "--x0", "0.2,-0.05"]
PLAN = ["plan", "--beta", "1", "--mu", "0.1", "--sigma", "0.1", "--rho", "0.05", "--steps", "10000", "--delta", "1"]


def said(capsys, arguments, code=0):
    assert main(arguments) == code
    out = capsys.readouterr()
    assert (out.err == "") == (code == 0)
    return out.out if code == 0 else out.err


def parsed(capsys, arguments):
    return json.loads(said(capsys, [*arguments, "--json"]))


# simulate


def test_simulate_prints_what_the_library_says(capsys):
    f = problems()["trap"](theta=0.125, beta=2.0, rho=0.5)
    run = simulate(f, method="sam", lr=0.25, rho=0.5, steps=400, x0=[0.2, -0.05])
    row = parsed(capsys, TRAP_RUN)
    assert {k: row[k] for k in ("problem", "method", "steps", "lanes")} == {
        "problem": "trap", "method": "sam", "steps": 400, "lanes": 2,
    }  # fmt: skip
    for name in ("mean_square_gradient", "min_square_gradient", "mean_perturbed_gap"):
        values = run[name].values
        assert row["statistics"][name]["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert row["statistics"][name]["least"] == values.min()
        assert row["statistics"][name]["largest"] == values.max()
        assert row["statistics"][name]["standard_error"] == pytest.approx(values.std(ddof=1) / 2**0.5, rel=1e-9)
    assert row["statistics"]["final_gradient"]["least"] == pytest.approx(0.75)
    assert row["statistics"]["final_gap"]["mean"] == pytest.approx(0.2421875)


def test_simulate_prints_a_table(capsys):
    lines = said(capsys, TRAP_RUN).splitlines()
    assert lines[0].strip() == "trap, sam, 400 steps, 2 lanes"
    assert re.split(r"\s{2,}", lines[1].strip()) == ["statistic", "mean", "standard error", "least", "largest"]
    assert next(line.split()[-1] for line in lines if line.startswith("||grad f(x_T)||")) == "0.75"
    assert max(map(len, lines)) <= 80


def test_seeds_and_starts_make_lanes(capsys, tmp_path):
    out = tmp_path / "run.csv"
    said(capsys, ["simulate", "e1", "--set", "beta=1", "--set", "mu=0.1", "--set", "rho=1", "--method", "m-sam", "--lr", "0.5",
                  "--rho", "1", "--steps", "20", "--x0", "3", "--x0", "-1", "--seeds", "3", "--out", str(out)])  # fmt: skip
    rows = list(csv.DictReader(out.read_text().splitlines()))
    f = problems()["e1"](beta=1.0, mu=0.1, rho=1.0)
    run = simulate(f, method="m-sam", lr=0.5, rho=1.0, steps=20, x0=[3.0] * 3 + [-1.0] * 3, seeds=[0, 1, 2] * 2)
    assert [float(row["x_final"]) for row in rows] == run.x_final.values.tolist()
    assert [float(row["final_gap"]) for row in rows] == f.gap(run.x_final.values).tolist()
    assert list(rows[0]) == ["lane", "x_final", "final_gap", "final_gradient", "mean_square_gradient", "min_square_gradient",
                             "mean_perturbed_gap"]  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["run.csv"]


def test_the_whole_run_as_netcdf(capsys, tmp_path):
    out = tmp_path / "run.nc"
    said(capsys, ["simulate", "quadratic", "--set", "curvatures=[1.0, 4.0]", "--lr", "InverseTime(1, shift=8)", "--rho",
                  "InverseSqrt(0.5)", "--steps", "50", "--x0", "1,-2", "--x0", "3", "--out", str(out)])  # fmt: skip
    expected = simulate(problems()["quadratic"](curvatures=[1.0, 4.0]), method="sam", lr=InverseTime(1.0, 8.0),
                        rho=InverseSqrt(0.5), steps=50, x0=[[1.0, -2.0], [3.0, 3.0]])  # fmt: skip
    with xr.open_dataset(out, engine="scipy") as run:
        assert run.x_final.values.tolist() == expected.x_final.values.tolist()
        assert run.attrs["method"] == "sam"
        assert set(run) == set(expected)


def test_a_run_that_diverges_is_a_result(capsys):
    row = parsed(capsys, ["simulate", "quadratic", "--set", "curvatures=[1]", "--method", "usam", "--lr", "3", "--rho", "9",
                          "--steps", "999", "--x0", "1"])  # fmt: skip
    assert row["statistics"]["final_gap"]["mean"] is None
    assert "not finite" in said(capsys, ["simulate", "quadratic", "--set", "curvatures=[1]", "--method", "usam", "--lr", "3",
                                         "--rho", "9", "--steps", "999", "--x0", "1"])  # fmt: skip


EXPRESSIONS = [
    ("0.05", 0.05),
    (" 1e-3 ", 1e-3),
    ("-1", -1),
    ("0.1, 0.2", (0.1, 0.2)),
    ("Constant(0.1)", Constant(0.1)),
    ("Cosine(0.05, steps=1000)", Cosine(0.05, 1000)),
    ("InverseSqrt(rho=0.5)", InverseSqrt(0.5)),
    ("Capped(Every(0.5, k=2), c=0.1)", Capped(Every(0.5, 2), 0.1)),
    ("Unnormalized(InverseSqrt(0.5))", Unnormalized(InverseSqrt(0.5))),
    ("ProportionalToLR(0.5, 0.1, power=0.5)", ProportionalToLR(0.5, 0.1, 0.5)),
]


@pytest.mark.parametrize(("text", "value"), EXPRESSIONS)
def test_schedules_are_read(text, value):
    assert number_or_schedule("--rho", text, RHO) == value


@pytest.mark.parametrize("schedule", [value for _, value in EXPRESSIONS if callable(value)])
def test_a_printed_schedule_can_be_read(schedule):
    assert number_or_schedule("--rho", repr(schedule), RHO) == schedule
    assert number_or_schedule("--lr", repr(InverseTime(0.1, 40.0)), LR) == InverseTime(0.1, 40.0)


EVIL = [
    "__import__('os').system('x')",
    "RHO['Constant'](1)",
    "Constant.__class__(1)",
    "[0.1]",
    "lambda: 1",
    "Constant(*[1])",
    "Constant(**{'rho': 1})",
    "StepInfo(1)",
    "RhoSchedule()",
    "True",
    "'0.1'",
    "x",
    "",
    "1 +",
    "0.1j",
    "(" * 500,
]


@pytest.mark.parametrize("text", EVIL)
def test_nothing_else_is_read(text):
    with pytest.raises(ValueError, match="must be a number, numbers with commas, or one of Constant"):
        number_or_schedule("--rho", text, RHO)


# plan


TITLES = "Names such as t6 are statements: `sharpmin list theorems` has their titles.\n"


def test_plan_prints_what_the_library_says(capsys):
    k = {"beta": 1.0, "mu": 0.1, "sigma": 0.1, "rho": 0.05, "steps": 10_000, "delta": 1.0}
    p = plan(setting="strongly-convex", oracle="m-sam", accuracy=1e-3, **k)
    assert said(capsys, [*PLAN, "--accuracy", "0.001"]) == f"{p}\n{TITLES}"
    assert parsed(capsys, [*PLAN, "--accuracy", "0.001"]) == json.loads(json.dumps(p.record()))


def test_every_keyword_of_plan_is_an_option(capsys):
    row = parsed(capsys, ["plan", "--setting", "convex", "--oracle", "n-sam", "--beta", "1", "--sigma", "0.1", "--rho", "0.05",
                          "--steps", "100", "--delta", "1", "--distance", "2", "--quantity", "perturbed-gap", "--lr", "0.1",
                          "--beta-component", "3"])  # fmt: skip
    expected = theorems()["t7"].bound(beta=1.0, sigma=0.1, rho=0.05, steps=100, distance=2.0, lr=0.1)
    assert (row["ids"][0], row["bound"]) == ("t7", expected)
    capped = ["plan", "--setting", "pl", "--mu", "0.1", "--oracle", "exact", "--beta", "2", "--rho", "1", "--steps", "9",
              "--delta", "1", "--radius"]  # fmt: skip
    assert parsed(capsys, [*capped, "capped", "--c", "0.25"])["rho"] == "Capped(rho=1.0, c=0.25)"
    assert parsed(capsys, [*capped, "clipped", "--clip", "0.25"])["clip"] == 0.25


def test_the_constants_of_the_data(capsys):
    row = parsed(capsys, ["plan", "--data", "digits", "--rho", "0.05", "--steps", "10000"])
    f = problems()["digits"]()
    k = {"beta": f.beta, "mu": f.mu, "sigma": f.sigma, "beta_component": f.beta_batch, "delta": row["trivial"]}
    assert row["bound"] == theorems()["t6"].bound(rho=0.05, steps=10_000, **k)
    assert row["bound"] == pytest.approx(0.5207, abs=1e-4)  # the row digits-t6-m of `reproduce`
    text = said(capsys, ["plan", "--data", "digits", "--delta", "9", "--oracle", "exact", "--rho", "0.05", "--steps", "1000"])
    assert text.startswith("digits: beta 5.328, mu 0.1, delta 9, distance ")


# list and cite


def test_list_names_everything(capsys):
    rows = parsed(capsys, ["list"])
    assert [row["id"] for row in rows["theorems"]] == list(theorems())
    assert [row["name"] for row in rows["problems"]] == list(problems())
    assert [row["name"] for row in rows["variants"]] == list(variants())
    for kind in rows:
        assert parsed(capsys, ["list", kind]) == rows[kind]
        text = said(capsys, ["list", kind])
        first = {line.split()[0] for line in text.splitlines() if line and not line.startswith(" ")}
        assert first >= {row.get("id", row.get("name")) for row in rows[kind]}
    trap = next(row for row in rows["problems"] if row["name"] == "trap")
    assert trap["arguments"] == "theta, beta, rho"
    assert {row["name"]: row["when"] for row in rows["variants"]} == {name: v.when for name, v in variants().items()}
    assert all(row.get("title", row.get("what")) for entries in rows.values() for row in entries)


def test_list_as_tables_for_papers(capsys):
    rows = parsed(capsys, ["list"])
    for kind, entries in rows.items():
        latex = said(capsys, ["list", kind, "--latex"])
        assert complaints(latex) == []
        assert latex.count(" \\\\\n") == len(entries) + 1
        head, rule, *body = said(capsys, ["list", kind, "--markdown"]).splitlines()
        assert len(body) == len(entries)
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in (head, rule, *body)} == {len(entries[0]) + 1}
    assert said(capsys, ["list", "--latex"]).count(r"\begin{tabular}") == len(rows)
    assert main(["list", "--latex", "--json"]) == 2
    refused = "sharpmin: list: several formats are given; give one of --json, --latex, --markdown; for example: sharpmin list"
    assert capsys.readouterr().err == f"{refused} problems\n"


def test_cite(capsys):
    usam, t1 = variants()["usam"].references, theorems()["t1"].references
    assert said(capsys, ["cite", "usam", "t1", "t2"]) == "\n\n".join(paper.bibtex() for paper in (*usam, *t1)) + "\n"
    assert [paper["key"] for paper in parsed(capsys, ["cite", "sam"])] == ["foret2021sharpness"]
    keys = re.findall(r"@inproceedings{(\w+),", said(capsys, ["cite"]))
    papers = [p.key for entries in (theorems(), variants()) for entry in entries.values() for p in entry.references]
    assert keys == [*dict.fromkeys([*papers, *(paper.key for paper in CANON)])]
    assert said(capsys, ["cite", CANON[0].key, usam[0].key]) == f"{CANON[0].bibtex()}\n\n{usam[0].bibtex()}\n"


# all of them

BAD = [
    ([*TRAP[:-1], "rho", "--lr", "1", "--steps", "1", "--x0", "1"], "--set 'rho' must be KEY=VALUE"),
    (["simulate", "trapp", "--lr", "1", "--steps", "1", "--x0", "1"], "simulate: no problem 'trapp'; nearest: trap"),
    (
        ["simulate", "trap", "--lr", "1", "--steps", "1", "--x0", "1"],
        "theta, beta, rho are missing; give them with --set; for example: ",
    ),
    (
        [*TRAP, "--set", "betta=1", "--lr", "1", "--steps", "1", "--x0", "1"],
        "--set betta= is unknown; nearest: beta",
    ),
    (
        [
            "simulate",
            "trap",
            "--set",
            "theta=0.1",
            "--set",
            "rho=1",
            "--set",
            "beta=two",
            "--lr",
            "1",
            "--steps",
            "1",
            "--x0",
            "1",
        ],
        "beta='two'",
    ),
    ([*TRAP, "--lr", "1", "--steps", "1", "--x0", "one"], "--x0 'one' must be a number"),
    (["simulate", "product", "--lr", "1", "--steps", "1", "--x0", "1,2,3"], "needs 2, or one for every coordinate"),
    ([*TRAP, "--lr", "Linear(1)", "--steps", "1", "--x0", "1"], "--lr 'Linear(1)' must be a number"),
    ([*TRAP, "--lr", "1", "--rho", "Cosine(0.1)", "--steps", "1", "--x0", "1"], "missing 1 required positional argument"),
    ([*TRAP, "--lr", "1", "--rho", "Constant(-1)", "--steps", "1", "--x0", "1"], "must be a finite number >= 0"),
    ([*TRAP, "--lr", "-1", "--rho", "1", "--steps", "1", "--x0", "1"], "lr="),
    ([*TRAP, "--method", "adam", "--lr", "1", "--steps", "1", "--x0", "1"], "--method 'adam' must be one of"),
    ([*TRAP, "--lr", "1", "--rho", "1", "--steps", "0", "--x0", "1"], "--steps 0"),
    ([*TRAP, "--lr", "1", "--steps", "1", "--x0", "1"], "--method 'sam' perturbs the weights, so it needs rho"),
    (
        [*TRAP, "--lr", "InverseTime(0, 0)", "--rho", "1", "--steps", "1", "--x0", "1"],
        "InverseTime: mu=0; mu must be a finite number > 0",
    ),
    ([*TRAP, "--lr", "1", "--steps", "1", "--x0", "1", "--seeds", "0"], "--seeds"),
    ([*TRAP, "--lr", "1", "--steps", "1", "--x0", "1", "--out", "run.txt"], "must end in .nc or .csv"),
    ([*TRAP, "--lr", "1", "--steps", "1", "--x0", "1", "--out", "no/where/run.nc"], "cannot write to --out no/where/run.nc"),
    ([*TRAP, "--lr", "1", "--steps", "1"], "--x0"),
    (["plan", "--rho", "1", "--steps", "5"], "plan: --beta is missing; give it, or --data digits"),
    (["plan", "--rho", "1", "--steps", "5", "--beta", "1"], "plan: --delta is missing; give it, or --data digits"),
    (["plan", "--rho", "1", "--steps", "5", "--data", "iris"], "plan: no data 'iris'; there is only digits"),
    ([*PLAN, "--setting", "smooth"], "--setting 'smooth' must be one of"),
    ([*PLAN, "--oracle", "n-sam", "--radius", "clipped"], "no statement applies"),
    ([*PLAN, "--accuracy", "-1"], "--accuracy -1.0"),
    (["list", "papers"], "give one of theorems, problems, variants"),
    (["simulate", "quadratic"], "for example: sharpmin simulate quadratic --set curvatures=4,1 --lr "),
    (["simulate", "quadratic", "--lr", "1", "--steps", "1", "--x0", "1"], "curvatures is missing; give it with --set; for"),
    (["simulate", "e3", "--lr"], "option '--lr' requires an argument; for example: sharpmin simulate e3 --set p=0.25 --set"),
    (["simulate", "trap", "--steps", "x"], "--steps 'x' must be a valid integer"),
    (["plan", "--rho"], "option '--rho' requires an argument; for example: sharpmin plan "),
    (["plan", "--rho", "1"], "--steps is missing; needed: --rho, --steps; for example: sharpmin plan "),
    (["plan", "--roh", "1"], "plan: no option --roh; nearest: --rho"),
    (["plan", "--rho", "1", "--steps", "5", "--beta", "1", "--delta", "1", "--mu", "1"], "--oracle 'm-sam' needs --sigma, the"),
    (["version"], "no command 'version'; "),
    (["simulat"], "no command 'simulat'; nearest: simulate; for example: sharpmin --help"),
    (["--verson"], "no option --verson; nearest: --version"),
    (["study", "digit"], "study: no data set 'digit'; nearest: digits"),
    (["study", "--seeds=0"], "study: --seeds '0' must be greater than or equal to 1"),
    (["study", "--jobs", "4"], "study: --jobs is called --workers now; for example: --workers 4"),
    (["diagnose"], "diagnose: RUN is missing; needed: The JSON lines that sharpmin.watch("),
    (["diagnose", "run.jsonl"], "cannot read run.jsonl: No such file or directory; give the file that sharpmin.watch("),
    (["cite", "t99"], "cite: no statement, variant or paper 't99'; sharpmin list shows"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_use_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = said(capsys, arguments, code=2)
    assert message in line
    assert "; for example: " in line
    assert line.startswith("sharpmin: ")
    assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["simulate", "plan", "list", "cite", "rho"])
def test_help_says_everything(command, capsys):
    text = said(capsys, [command, "--help"])
    assert "--json" in text
    assert command in said(capsys, ["--help"])
    for line in re.findall(r"^  --[a-z0-9-]+ .*$", text, flags=re.MULTILINE):
        assert len(line.split()) > 2, line


def test_help_loads_nothing_heavy():
    code = "import sys; from sharpmin.cli import main; main(['plan', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"xarray", "sklearn", "pandas"}.isdisjoint(done.stdout.splitlines()[-1].split())
