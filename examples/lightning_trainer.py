"""SAM in Lightning's Trainer: the optimizer, and one callback."""

import argparse

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sharpmin as sm
from sharpmin.integrations import LightningSAM

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()


class Digits(pl.LightningModule):
    """Nothing in it knows of a second pass."""

    def __init__(self, steps):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
        self.steps = steps

    def training_step(self, batch, batch_idx):
        """The loss of one batch."""
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        """SAM around any base; schedulers take the SAM."""
        base = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        opt = sm.SAM(base, rho=0.05)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, self.steps)
        return [opt], [{"scheduler": scheduler, "interval": "step"}]


pl.seed_everything(0, verbose=False)
data, target = (torch.tensor(array) for array in load_digits(return_X_y=True))
loader = DataLoader(TensorDataset(data.float() / 16, target), 32, shuffle=True, drop_last=True)
quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}

trainer = pl.Trainer(
    callbacks=[LightningSAM()],
    max_steps=args.steps,
    accumulate_grad_batches=2,
    gradient_clip_val=1.0,
    accelerator="cpu",
    **quiet,
)
trainer.fit(Digits(args.steps), loader)
print(f"{trainer.global_step} steps, last loss {trainer.callback_metrics['loss'].item():.3f}")
