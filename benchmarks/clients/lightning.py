"""PyTorch Lightning: ``Trainer.fit`` with validation, on scikit-learn's pictures of digits."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pyfastnn
from benchmarks.clients.run import Client
from benchmarks.clients.skorch_classifier import digits


class Classifier(pl.LightningModule):
    """A network, its loss and its optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return a score for each digit."""
        return self.net(x)

    def _loss(self, batch: list[Tensor]) -> Tensor:
        x, label = batch
        loss = F.cross_entropy(self(x), label)
        self.losses.append(loss.item())
        return loss

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the loss of a batch."""
        return self._loss(batch)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Log the loss of a batch."""
        self.log("val_loss", self._loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class LightningRun:
    """``Trainer.fit`` for some epochs, each with its validation."""

    def __init__(self, fused: bool) -> None:
        torch.manual_seed(0)
        self.module = Classifier()
        if fused:
            pyfastnn.fuse(self.module, inplace=True)
        pixels, labels = map(torch.from_numpy, digits())
        self.train = DataLoader(TensorDataset(pixels[:1500], labels[:1500]), 64, shuffle=True)
        self.validation = DataLoader(TensorDataset(pixels[1500:], labels[1500:]), 64)
        self.trainer: pl.Trainer | None = None

    def learn(self, rounds: int) -> list[float]:
        """Fit; the losses are those of the batches of training and of validation."""
        self.module.losses.clear()
        self.trainer = trainer(rounds)
        self.trainer.fit(self.module, self.train, self.validation)
        return list(self.module.losses)

    @torch.no_grad()
    def outputs(self) -> Tensor:
        """Scores of the first pictures."""
        return self.module(torch.from_numpy(digits()[0][:16]))

    def save(self, folder: Path) -> None:
        """Write a checkpoint of the trainer."""
        assert self.trainer is not None
        self.trainer.save_checkpoint(folder / "model.ckpt")

    def load(self, folder: Path) -> None:
        """Read the parameters from it."""
        checkpoint = torch.load(folder / "model.ckpt", weights_only=True)
        self.module.load_state_dict(checkpoint["state_dict"])


def trainer(epochs: int) -> pl.Trainer:
    """A trainer that writes and prints nothing."""
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


CLIENTS = [Client("Lightning Trainer, digits", "epoch", LightningRun, 3, 5)]
