"""Networks of rtdl_revisiting_models, for tables: on the breast cancer data of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import rtdl_revisiting_models as rtdl
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import pyfastnn
from benchmarks.clients.run import Client

FEATURES = 30


class TabularRun:
    """A loop over shuffled batches, as in the examples of the library."""

    def __init__(self, make: Callable[[], nn.Module], fused: bool) -> None:
        torch.manual_seed(0)
        self.module = make()
        if fused:
            self.module = pyfastnn.fuse(self.module)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3)
        table, labels = load_breast_cancer(return_X_y=True)
        self.x = torch.from_numpy(StandardScaler().fit_transform(table)).float()
        self.y = torch.from_numpy(labels).float()

    def learn(self, rounds: int) -> list[float]:
        """Train for some epochs in batches of 64."""
        self.module.train()
        batches = [rows for _ in range(rounds) for rows in torch.randperm(len(self.x)).split(64)]
        return [self._update(self.x[rows], self.y[rows]) for rows in batches]

    def _update(self, x: Tensor, y: Tensor) -> float:
        self.optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(self.module(x).squeeze(-1), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def outputs(self) -> Tensor:
        """Scores of the first rows."""
        return self.module.eval()(self.x[:16])

    def save(self, folder: Path) -> None:
        """Write model and optimizer."""
        state = {"model": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state, folder / "model.pt")

    def load(self, folder: Path) -> None:
        """Read them."""
        state = torch.load(folder / "model.pt", weights_only=True)
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def mlp() -> nn.Module:
    """Make the MLP of the paper."""
    return rtdl.MLP(d_in=FEATURES, d_out=1, n_blocks=3, d_block=256, dropout=0.1)


def resnet() -> nn.Module:
    """Make the ResNet of the paper: blocks of batch norm, Linear, ReLU, Linear."""
    return rtdl.ResNet(
        d_in=FEATURES,
        d_out=1,
        n_blocks=2,
        d_block=192,
        d_hidden_multiplier=2.0,
        dropout1=0.2,
        dropout2=0.0,
    )


CLIENTS = [
    Client("rtdl MLP, breast cancer", "epoch", partial(TabularRun, mlp), 5, 5),
    Client(
        "rtdl ResNet, breast cancer",
        "epoch",
        partial(TabularRun, resnet),
        3,
        5,
        relu_stays="the last one follows a batch norm",
    ),
]
