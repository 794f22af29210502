"""Lightning's DDP strategy on two real ranks: the run equals one process, and gradients are reduced once a pass."""

import os

import pytest
import torch
from tests.dist.ranks import on_ranks


def train(rank, world, accumulate, batches=6):
    """The weights after an epoch, the all-reduces that it took, and what Lightning counted."""
    import lightning.pytorch as pl
    import torch.distributed as dist
    from lightning.pytorch.strategies import DDPStrategy
    from torch import nn
    from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

    import sharpmin as sm
    from sharpmin.integrations import LightningSAM

    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
            self.forwards = self.reductions = 0

        def on_train_start(self):
            if world > 1:
                self.trainer.model.register_comm_hook(self, Net.reduce)

        @staticmethod
        def reduce(net, bucket):
            net.reductions += 1
            work = dist.all_reduce(bucket.buffer().div_(world), async_op=True)
            return work.get_future().then(lambda future: future.value()[0])

        def training_step(self, batch, batch_idx):
            self.forwards += 1
            x, y = batch
            return nn.functional.mse_loss(self.net(x), y)

        def configure_optimizers(self):
            return sm.SAM(torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9), rho=0.2)

    rows = torch.randn(8 * batches, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(rows[:, :4], rows[:, 4:])
    strategy, net = DDPStrategy(process_group_backend="gloo") if world > 1 else "auto", Net()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=world,
        strategy=strategy,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=0.5,
        callbacks=[LightningSAM()],
        use_distributed_sampler=False,  # it shuffles
        **quiet,
    )
    sampler = DistributedSampler(data, world, rank, shuffle=False)
    trainer.fit(net, DataLoader(data, 8 // world, sampler=sampler))
    return [p.detach() for p in net.parameters()], net.reductions, net.forwards, trainer.global_step


def on_rank(rank):
    """One of two processes that somebody else has started, as `torchrun` does."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ |= {"TORCHELASTIC_RUN_ID": "tests", **{name: str(value) for name, value in own.items()}}
    return [train(rank, 2, accumulate) for accumulate in (1, 2)]


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_two_ranks_are_one_process():
    for accumulate, ours, others in zip((1, 2), *on_ranks(on_rank, 2), strict=True):
        weights, reductions, forwards, steps = ours
        assert (forwards, steps) == (12, 6 // accumulate)
        assert reductions == 2 * steps  # one in the first pass, one in the second
        whole, _, _, _ = train(0, 1, accumulate)
        for a, b, c in zip(weights, others[0], whole, strict=True):
            assert torch.equal(a, b)
            torch.testing.assert_close(a, c, rtol=0, atol=1e-12)
