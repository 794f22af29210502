"""A Lightning run with its DDP strategy on one of two ranks, or in one process."""

import torch


def train(rank, world, accumulate, file, batches=6):
    """The weights after an epoch, the all-reduces that it took, what Lightning counted, and what the watch saw."""
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
            opt = sm.SAM(torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9), rho=0.2)
            self.probe = sm.watch(opt, to=file, every=1, block=1)
            return opt

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
    net.probe.close()
    counts = {"reductions": net.reductions, "forwards": net.forwards, "steps": trainer.global_step}
    return [p.detach() for p in net.parameters()], counts, list(net.probe.log.steps)
