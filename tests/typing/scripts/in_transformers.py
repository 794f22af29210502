"""`SAMTrainerMixin` in a script for the Hugging Face Trainer."""

from typing import reveal_type

import torch
from transformers import Trainer, TrainingArguments

import sharpmin as sm
from sharpmin.integrations import SAMTrainerMixin


class SAMTrainer(SAMTrainerMixin, Trainer): ...


net = torch.nn.Linear(1, 1)
trainer = SAMTrainer(net, TrainingArguments("runs"), sam={"rho": 0.05})
trainer.train()
reveal_type(trainer.sam)  # R: sharpmin.optim.sam.SAM
reveal_type(trainer.sam.last.radius)  # R: float
reveal_type(trainer.second_pass)  # R: bool
SAMTrainer(net, optimizers=(sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1)), None))
SAMTrainer(net, sam=0.05)  # E: arg-type
wrong = trainer.sma  # E: attr-defined
