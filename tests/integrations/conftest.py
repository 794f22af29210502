"""A trainer for the tests of Transformers, imported when one asks for it."""

import pytest
import torch


@pytest.fixture
def build(tmp_path):
    """A Hugging Face trainer on a fresh model; `build.forwards` counts the training forwards."""
    from tests.integrations.hf import MODELS, Recorder, SAMTrainer, arguments, data

    from sharpmin.integrations import SAMTrainerMixin

    def make(kind="net", *, batches=6, trainer=None, folder="out", model=None, args=None, **options):
        torch.manual_seed(0)
        trainer = SAMTrainer if trainer is None else trainer
        model = MODELS[kind]() if model is None else model
        model.register_forward_pre_hook(count)
        recorder = Recorder()
        if issubclass(trainer, SAMTrainerMixin) and "optimizers" not in options:
            options = {"sam": {"rho": 0.2}, **options}
        made = trainer(
            model,
            arguments(tmp_path / folder, **(args or {})),
            train_dataset=data(kind, 4 * batches),
            callbacks=[recorder, *options.pop("callbacks", [])],
            **options,
        )
        made.recorder = recorder
        return made

    def count(module, _):
        make.forwards += module.training

    make.forwards = 0
    return make
