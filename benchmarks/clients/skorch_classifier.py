"""skorch: a network as an estimator of scikit-learn, on its pictures of digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import Tensor, nn

import pyfastnn
from benchmarks.clients.run import Client


def digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """1797 pictures of 64 pixels, and what they show."""
    pixels, labels = load_digits(return_X_y=True)
    return (pixels / 16).astype(np.float32), labels.astype(np.int64)


class SkorchRun:
    """``partial_fit`` epoch by epoch."""

    def __init__(self, fused: bool) -> None:
        torch.manual_seed(0)
        module: nn.Module = nn.Sequential(
            nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        if fused:
            module = pyfastnn.fuse(module)
        self.net = NeuralNetClassifier(
            module,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=1e-3,
            max_epochs=1,
            batch_size=64,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        ).initialize()
        self.module = self.net.module_
        self.pixels, self.labels = digits()

    def learn(self, rounds: int) -> list[float]:
        """Train for some epochs; the losses are those of the batches."""
        before = len(self.net.history)
        for _ in range(rounds):
            self.net.partial_fit(self.pixels, self.labels)
        epochs = self.net.history[before:, "batches", :, "train_loss"]
        return [loss for epoch in epochs for loss in epoch]

    def outputs(self) -> Tensor:
        """Probabilities for the first pictures."""
        return torch.from_numpy(self.net.predict_proba(self.pixels[:16]))

    def save(self, folder: Path) -> None:
        """Write parameters and the optimizer's state."""
        self.net.save_params(folder / "model.pt", f_optimizer=folder / "optimizer.pt")

    def load(self, folder: Path) -> None:
        """Read them."""
        self.net.load_params(folder / "model.pt", f_optimizer=folder / "optimizer.pt")


CLIENTS = [Client("skorch NeuralNetClassifier, digits", "epoch", SkorchRun, 3, 5)]
