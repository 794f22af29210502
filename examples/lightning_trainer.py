"""SAM in Lightning's Trainer: return it from `configure_optimizers`, and add one callback.

pip install 'sharpmin[lightning]' scikit-learn
python examples/lightning_trainer.py
"""

import argparse

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sharpmin as sm
from sharpmin.integrations import LightningSAM

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()


class Digits(pl.LightningModule):
    """A plain LightningModule: only `configure_optimizers` mentions SAM."""

    def __init__(self, steps):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
        self.steps = steps

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("accuracy", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        base = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        opt = sm.SAM(base, rho=0.05)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, self.steps)
        return [opt], [{"scheduler": scheduler, "interval": "step"}]


pl.seed_everything(0, verbose=False)
images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
rows = TensorDataset(images.float() / 16, labels)
train, test = torch.utils.data.Subset(rows, range(1500)), torch.utils.data.Subset(rows, range(1500, len(rows)))
model = Digits(args.steps)

trainer = pl.Trainer(
    callbacks=[LightningSAM()],
    max_steps=args.steps,
    accumulate_grad_batches=2,
    gradient_clip_val=1.0,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(train, 32, shuffle=True, drop_last=True))
[metrics] = trainer.test(model, DataLoader(test, 300), verbose=False)
radius = trainer.optimizers[0].last.radius
print(f"{trainer.global_step} steps, test accuracy {metrics['accuracy']:.3f}, radius {radius:.4f}")
