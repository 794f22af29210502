"""`watch` under each framework: the rows and the verdict of the same loop by hand, one row a step, each written once."""

import json

import pytest
from tests.integrations import accelerate_case
from tests.integrations.hf import by_hand as trainer_by_hand
from tests.integrations.lightning_case import Net, loader, sam, trainer
from tests.integrations.lightning_case import by_hand as lightning_by_hand

import sharpmin as sm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),  # Lightning reads torch's pytree by an old name
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
]
WATCH = {"every": 1, "block": 4}
STEPS = 32


def agrees(probe, path, hand, rel):
    """All that the watch has seen, in memory and in the file, is what it sees in the loop by hand."""
    probe.close()
    hand.close()
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["kind"] for row in written].count("run") == 1
    rows = [row for row in written if row["kind"] == "step"]
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert rows == list(probe.log.steps)
    for row, other in zip(rows, hand.log.steps, strict=True):
        assert row.keys() == other.keys() >= {"gg", "dg", "dd", "lr", "rho", "radius", "gain", "loss"}
        assert all(row[key] == other[key] or row[key] == pytest.approx(other[key], rel=rel) for key in row.keys() - {"id"})
    found, expected = sm.diagnose(path), sm.diagnose(hand)
    assert found.state == expected.state
    assert found.numbers.asdict() == {
        key: value if value is None else pytest.approx(value, rel=max(rel, 1e-12))
        for key, value in expected.numbers.asdict().items()
    }


def test_lightning(tmp_path):
    class Watched(Net):
        def configure_optimizers(self):
            self.probe = sm.watch(opt := sam(self, telemetry=True), to=tmp_path / "run.jsonl", **WATCH)
            return opt

    net, run = Watched(), trainer(accumulate_grad_batches=2, max_epochs=4)
    run.fit(net, loader(16))
    hand, opt = lightning_by_hand(batches=16, epochs=4, watch=WATCH, gamma=1.0, telemetry=True)
    agrees(net.probe, tmp_path / "run.jsonl", hand.probe, rel=0)
    assert run.optimizers[0].last.cosine == opt.last.cosine
    assert run.optimizers[0].last.clean_loss == net.probe.log.steps[-1]["loss"]


def test_trainer(build, tmp_path):
    trained = build(
        batches=64, args={"save_strategy": "no", "lr_scheduler_type": "constant"}, sam={"rho": 0.2, "telemetry": True}
    )
    trained.create_optimizer()
    probe = sm.watch(trained.sam, to=tmp_path / "run.jsonl", **WATCH)
    trained.train()
    hand, losses = trainer_by_hand("net", trained, steps=STEPS, watch=WATCH, sam={"rho": 0.2, "telemetry": True})
    agrees(probe, tmp_path / "run.jsonl", hand.probe, rel=1e-4)
    assert trained.sam.last.clean_loss == pytest.approx(losses[-1], rel=1e-5)


def test_accelerate(tmp_path):
    accelerate_case.forget()
    parts = accelerate_case.made(batches=2 * STEPS, gamma=1.0, telemetry=True)
    probe = sm.watch(parts[5].sam, to=tmp_path / "run.jsonl", **WATCH)
    accelerate_case.run(*parts)
    hand, opt = accelerate_case.by_hand(2 * STEPS, gamma=1.0, watch=WATCH, telemetry=True)
    agrees(probe, tmp_path / "run.jsonl", hand.probe, rel=0)
    assert parts[5].sam.last.cosine == opt.last.cosine
