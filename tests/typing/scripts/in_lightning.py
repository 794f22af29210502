"""`LightningSAM` in a Lightning script."""

from typing import Any, reveal_type

import lightning.pytorch as pl
import torch

import sharpmin as sm
from sharpmin.integrations import LightningSAM


class Net(pl.LightningModule):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return sm.SAM(torch.optim.SGD(self.parameters(), lr=0.1), rho=0.05)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return torch.ones(())


callback = LightningSAM()
trainer = pl.Trainer(callbacks=[callback, sm.integrations.LightningSAM()])
reveal_type(callback.second_pass)  # R: bool
trainer.fit(Net())
LightningSAM(rho=0.05)  # E: call-arg
sm.integrations.LightingSAM()  # E: attr-defined
