"""Models as people write them, whose chains ``fuse`` must find, and what they must not freeze."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

SCALE = 2.0
TABLE = {"scale": 1.0}


@dataclass
class Config:
    scale: float = 1.0


class Base(nn.Module):
    """Parts for the forwards below; every model draws the same parameters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2, self.head = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 3)
        self.act, self.inplace = nn.ReLU(), nn.ReLU(inplace=True)
        self.drop, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(6)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3)})
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 4)))
        self.register_buffer("shift", torch.ones(4))
        self.gain = nn.Parameter(torch.full((4,), 0.5))
        self.plain = torch.full((4,), 3.0)
        self.flag, self.numbers, self.config, self.function = True, [1.0, 2.0], Config(), F.relu
        self.also = [self.fc1, self.fc2]


class Functional(Base):
    def forward(self, x):
        return self.head(F.relu(self.fc2(F.relu(self.fc1(x)))))


class TorchFunction(Base):
    def forward(self, x):
        return self.head(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


class Method(Base):
    def forward(self, x):
        return self.head(self.fc2(self.fc1(x).relu()).relu())


class Modules(Base):
    def forward(self, x):
        return self.head(self.inplace(self.fc2(self.act(self.fc1(x)))))


class InplaceStatements(Base):
    def forward(self, x):
        x = self.fc1(x)
        x.relu_()
        x = self.fc2(x)
        F.relu_(x)
        return self.head(x)


class Loop(Base):
    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x)


class Nested(Base):
    def forward(self, x):
        return self.head(self.body(x).relu())


class DropoutAndNorm(Base):
    def forward(self, x):
        x = self.drop(self.act(self.norm(self.fc1(x))))
        x = F.dropout(F.relu(self.fc2(x)), 0.3, self.training)
        return self.drop(F.relu(self.head(x)))


class Residual(Base):
    def forward(self, x):
        for layer in self.layers[:2]:
            x = x + torch.relu(layer(x))
        return self.heads["a"](x), self.heads["b"](x).relu()


class SharedLayer(Base):
    def forward(self, x):
        return self.act(self.layers[0](self.act(self.layers[0](x))))


class UsedTwice(Base):
    def forward(self, x):
        z = self.layers[0](x)
        return self.head(F.relu(z) + z)


class InplaceUsedTwice(Base):
    def forward(self, x):
        z = self.layers[0](x)
        return self.head(F.relu(z, inplace=True) + z)


class InputChanged(Base):
    def forward(self, x):
        z = self.layers[0](x)
        x.mul_(2)
        return F.relu(z) + x


class Optional(Base):
    def forward(self, x, mask=None, gain: float = 1.0):
        x = F.relu(self.layers[0](x))
        return self.head(x * gain if mask is None else x * mask)


class Choice(Base):
    def forward(self, x, which="a"):
        return F.relu(self.heads[which](x))


class Batch(Base):
    def forward(self, x):
        if isinstance(x, dict):
            x = x["features"]
        return {"scores": F.relu(self.fc1(x)), "pair": (self.head(x), [self.head(x).relu()])}


class Noise(Base):
    def forward(self, x):
        return F.relu(self.fc1(x)) + torch.randn(6) + torch.rand(1).item()


class Buffers(Base):
    def forward(self, x):
        return F.relu(self.layers[0](x)) * self.shift.sum().item() + self.gain.clone() * self.plain


class Helper(Base):
    def forward(self, x):
        return activate(self.also[0], x) * SCALE


def activate(layer, x):
    return F.relu(layer(x))


class Shapes(Base):
    def forward(self, x):
        rows = x.shape[0]
        x = F.relu(self.fc1(x.view(rows, -1)))
        return x.view(x.size(0), 2, 3), torch.cat([F.relu(f(x[:, :4])) for f in self.layers], -1)


FUSED = [
    Functional,
    TorchFunction,
    Method,
    Modules,
    InplaceStatements,
    Loop,
    Nested,
    DropoutAndNorm,
    Residual,
    SharedLayer,
    Optional,
    Choice,
    Batch,
    Noise,
    Buffers,
    Helper,
    Shapes,
]
