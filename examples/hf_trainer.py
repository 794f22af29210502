"""The Hugging Face Trainer with SAM: a tiny transformer that reads a digit as a sequence of eight rows.

pip install 'sharpmin[transformers]' scikit-learn
python examples/hf_trainer.py --steps 200
"""

import argparse
import tempfile

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import Trainer, TrainingArguments

from sharpmin.integrations import SAMTrainerMixin


class SAMTrainer(SAMTrainerMixin, Trainer):
    """The whole change."""


class Reader(nn.Module):
    """Eight rows of eight pixels, one attention layer, ten classes; it returns what models of the library return."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.place = nn.Parameter(torch.zeros(8, 32))
        layer = nn.TransformerEncoderLayer(32, nhead=4, dim_feedforward=64, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=1)
        self.head = nn.Linear(8 * 32, 10)

    def forward(self, rows, labels=None):
        logits = self.head(self.layers(self.embed(rows) + self.place).flatten(1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def digits():
    images, labels = load_digits(return_X_y=True)
    rows = torch.tensor(images, dtype=torch.float32).reshape(-1, 8, 8) / 16
    data = [{"rows": r, "labels": label} for r, label in zip(rows, torch.tensor(labels), strict=True)]
    return data[:1500], data[1500:]


def main(steps):
    train, test = digits()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=32,
            gradient_accumulation_steps=2,
            learning_rate=1e-2,
            max_grad_norm=1.0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = SAMTrainer(
            Reader(),
            args,
            train_dataset=train,
            eval_dataset=test,
            compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
            sam={"rho": 0.05},
        )
        trainer.train()
        accuracy = trainer.evaluate()["eval_accuracy"]
    print(f"{steps} steps, accuracy {accuracy:.3f}, radius {trainer.sam.last.radius:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
