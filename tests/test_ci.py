"""Workflows, issue forms and pre-commit: the commands, targets and versions that they name exist."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from tests.conftest import MARKS

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z]+):(?!=)", MAKEFILE, flags=re.MULTILINE))


def load(path):
    return yaml.safe_load(path.read_text())


def named(files):
    return [pytest.param(path, id=path.stem) for path in files]


def jobs(path):
    return load(path)["jobs"].values()


def steps(path):
    return [step for job in jobs(path) for step in job.get("steps", [])]


def filled(command, job):
    """`command` once for each row of the job's matrix."""
    for row in job.get("strategy", {}).get("matrix", {}).get("include", [{}]):
        line = command
        for key, value in row.items():
            line = line.replace(f"${{{{ matrix.{key} }}}}", value)
        yield line


def test_the_targets_are_phony():
    assert set(" ".join(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)).split()) == TARGETS


def test_what_make_quick_leaves_out_exists_and_is_left_out():
    left_out = re.search(r'^QUICK := .*-m "(.*)"$', MAKEFILE, flags=re.MULTILINE)[1]
    assert set(re.findall(r"not (\w+)", left_out)) == {*MARKS, "browser", "gpu"}
    assert [place for places in MARKS.values() for place in places if not place.exists()] == []


def test_the_gate_and_the_release_are_there():
    assert {"gate", "release"} <= {path.stem for path in WORKFLOWS}


@pytest.mark.parametrize("path", named(path for path in WORKFLOWS if path.stem in ("gate", "release")))
def test_commands_are_targets_of_make(path):
    runs = [(step["run"], job) for job in jobs(path) for step in job.get("steps", []) if "run" in step]
    commands = [line for command, job in runs for line in filled(command, job)]
    assert commands
    for command in commands:
        program, target, *_ = shlex.split(command)
        assert program == "make"
        assert target in TARGETS, command


@pytest.mark.parametrize("path", named(WORKFLOWS))
def test_actions_are_pinned_to_a_major_version(path):
    used = [step["uses"] for step in steps(path) if "uses" in step] + [job["uses"] for job in jobs(path) if "uses" in job]
    assert used
    for action in used:
        if action.startswith("./"):
            assert (ROOT / action).is_file()
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", action), action


@pytest.mark.parametrize("path", named(WORKFLOWS))
def test_a_job_ends_and_may_only_read(path):
    """Writing is for a job that says so, and takes part in no build."""
    assert load(path)["permissions"] == {"contents": "read"}
    for job in jobs(path):
        assert "uses" in job or job["timeout-minutes"] <= 120
        if "id-token" in job.get("permissions", {}):
            assert not [step for step in job["steps"] if "run" in step]


def test_only_a_tag_publishes_and_only_after_the_gate():
    release = load(ROOT / ".github" / "workflows" / "release.yml")
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML reads the key `on` as true
    assert (release["jobs"]["publish"]["needs"], release["jobs"]["build"]["needs"]) == ("build", "gate")
    assert release["jobs"]["publish"]["environment"]["name"] == "pypi"
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}


def test_the_classifiers_are_what_the_gate_runs():
    matrix = load(ROOT / ".github" / "workflows" / "gate.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: "
    assert [line.removeprefix(prefix) for line in PROJECT["classifiers"] if line.startswith(prefix)] == matrix
    assert PROJECT["requires-python"] == f">={matrix[0]}"


@pytest.mark.parametrize("path", named(FORMS))
def test_a_form_asks_for_what_is_needed(path):
    form = load(path)
    assert form.keys() == {"name", "description", "labels", "body"}
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    for field in form["body"]:
        assert field["type"] in ("textarea", "input", "dropdown")
        assert field["attributes"]["label"]
    assert [field for field in form["body"] if field.get("validations", {}).get("required")]


def test_pre_commit_runs_what_lint_runs():
    hooks = [hook for repo in load(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert all(hook["language"] == "system" for hook in hooks)
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, flags=re.MULTILINE)[1].replace("$(BIN)", ".venv/bin")
    lines = [line.strip() for line in recipe.splitlines()]
    for hook in hooks:
        command = hook["entry"].removesuffix(" --fix")
        assert any(line.startswith(command) for line in lines), command
