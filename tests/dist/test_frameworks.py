"""Lightning, the Hugging Face Trainer and Accelerate on two gloo ranks: one process with all the data, and one writer."""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from tests.dist import hf_ranks, lightning_ranks
from tests.dist.ranks import on_ranks

import sharpmin as sm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),  # Lightning reads torch's pytree by an old name
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
]


def work(rank, port, folder):
    """All runs of one rank, with the variables that `torchrun` sets."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in own.items()}, MASTER_ADDR="127.0.0.1")
    os.environ |= {"TORCHELASTIC_RUN_ID": "tests", "ACCELERATE_USE_CPU": "true"}
    at = f"{folder}/{{}}.jsonl".format
    options = {"ddp_backend": "gloo", "ddp_find_unused_parameters": False}
    files = {case: at("trainer") if case == "global" else None for case in hf_ranks.CASES}
    return {
        "trainer": {case: hf_ranks.trained(case, folder, files[case], **options) for case in hf_ranks.CASES},
        "accelerate": {scope: hf_ranks.golden(scope, at("accelerate")) for scope in ("global", "rank")},
        "lightning": {n: lightning_ranks.train(rank, 2, n, at(f"lightning{n}")) for n in (1, 2)},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def ranks(folder):
    """All runs on two ranks, in one pair of processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return on_ranks(work, 2, port, str(folder))


def watched_alike(file, first, second, alone, rel):
    """Both ranks saw what one process sees, but for id and the loss of their own data; the first has written it, once."""
    written = [json.loads(line) for line in Path(file).read_text().splitlines()]
    assert [row["kind"] for row in written].count("run") == 1
    assert [row for row in written if row["kind"] == "step"] == first
    for row, other, whole in zip(first, second, alone, strict=True):
        losses = [each.pop("loss") for each in (row, other, whole)]
        assert len({each.pop("id") for each in (row, other, whole)}) == 3
        assert row == other
        assert row == {key: value if key == "kind" else pytest.approx(value, rel=rel) for key, value in whole.items()}
        assert sum(losses[:2]) / 2 == pytest.approx(losses[2], rel=rel)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning(ranks, folder, tmp_path, accumulate):
    (weights, counts, rows), (others, _, second) = (rank["lightning"][accumulate] for rank in ranks)
    steps = 6 // accumulate
    assert counts == {"reductions": 2 * steps, "forwards": 12, "steps": steps}  # one in the first pass, one in the second
    whole, _, alone = lightning_ranks.train(0, 1, accumulate, tmp_path / "alone.jsonl")
    for a, b, c in zip(weights, others, whole, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c, rtol=0, atol=1e-12)
    watched_alike(folder / f"lightning{accumulate}.jsonl", rows, second, alone, rel=1e-9)


def test_the_diagnosis_of_a_run_on_two_ranks(ranks, folder, tmp_path):
    lightning_ranks.train(0, 1, 1, tmp_path / "alone.jsonl")
    ours, whole = (sm.diagnose(file).numbers.asdict() for file in (folder / "lightning1.jsonl", tmp_path / "alone.jsonl"))
    for loss in ("loss", "start"):
        assert ours.pop(loss) != whole.pop(loss)  # of the first rank's data, and of all
    assert ours == {key: value if value is None else pytest.approx(value, rel=1e-5) for key, value in whole.items()}


@pytest.mark.parametrize(("case", "reductions"), {"global": 4, "clipped": 4, "microbatch": 2, "one pass": 2}.items())
def test_trainer(ranks, folder, tmp_path, case, reductions):
    (first, reduced, rows), (second, _, others) = (rank["trainer"][case] for rank in ranks)
    assert reduced == reductions
    file = str(tmp_path / "alone.jsonl") if rows else None
    whole, _, alone = hf_ranks.trained(case, str(tmp_path), file, gradient_accumulation_steps=4)
    for name, value in whole.items():
        assert torch.equal(first[name], second[name])
        assert (first[name] - value).abs().max() <= 1e-6, name
    if case == "global":
        watched_alike(folder / "trainer.jsonl", rows, others, alone, rel=1e-4)


@pytest.mark.parametrize(("scope", "end"), [("global", 0.38), ("rank", 0.41)])
def test_the_golden_step_in_accelerate(ranks, scope, end):
    assert [rank["accelerate"][scope][0] for rank in ranks] == [pytest.approx(end, abs=1e-12)] * 2


def test_watching_in_accelerate(ranks, folder):
    """f' = -1.5 and 3.5 on the ranks, 1 on average; f'' = 2 on average, so D = 2 rho = 0.2."""
    rows = [rank["accelerate"]["global"][1][0] for rank in ranks]
    for row in rows:
        assert [row[key] for key in ("gg", "dg", "dd")] == pytest.approx([1.0, 0.2, 0.04], rel=1e-12)
    assert [row["loss"] for row in rows] == [0.375, 6.125]
    kinds = [json.loads(line)["kind"] for line in (folder / "accelerate.jsonl").read_text().splitlines()]
    assert kinds == ["run", "step"]
    assert all('watch: scope="rank" on 2 ranks' in rank["accelerate"]["rank"][1] for rank in ranks)
