"""Reinforcement learning in a single file: hand-written forwards, a loop in plain sight.

Transitions are drawn once and stand for a replay buffer: what is timed is the updates alone.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyfastnn
from benchmarks.clients.run import Client

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0
GAMMA = 0.99
ALPHA = 0.2


class QNetwork(nn.Module):
    """A trunk and two heads: the value of the state and the advantage of each action."""

    def __init__(self, observation: int, actions: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(observation, 120)
        self.fc2 = nn.Linear(120, 84)
        self.value = nn.Linear(84, 1)
        self.advantage = nn.Linear(84, actions)

    def forward(self, x: Tensor) -> Tensor:
        """Return the value of every action."""
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(1, keepdim=True)


class Critic(nn.Module):
    """The value of a state and an action."""

    def __init__(self, observation: int, action: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(observation + action, 256)
        self.fc2 = nn.Linear(256, 256)
        self.fc3 = nn.Linear(256, 1)

    def forward(self, x: Tensor, action: Tensor) -> Tensor:
        """Return one value for each row."""
        x = torch.cat([x, action], dim=1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class Actor(nn.Module):
    """A normal distribution of actions, squashed into their range."""

    def __init__(self, observation: int, action: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(observation, 256)
        self.fc2 = nn.Linear(256, 256)
        self.fc_mean = nn.Linear(256, action)
        self.fc_log_std = nn.Linear(256, action)
        self.register_buffer("scale", torch.full((action,), 2.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the standard deviation, before squashing."""
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        log_std = torch.tanh(self.fc_log_std(x))
        log_std = LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (log_std + 1)
        return self.fc_mean(x), log_std

    def act(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draw actions, and return the logarithms of their densities."""
        mean, log_std = self(x)
        normal = torch.distributions.Normal(mean, log_std.exp())
        drawn = normal.rsample()
        squashed = torch.tanh(drawn)
        density = normal.log_prob(drawn) - torch.log(self.scale * (1 - squashed**2) + 1e-6)
        return squashed * self.scale, density.sum(1, keepdim=True)


class Transitions:
    """Observations, actions, rewards and next observations to sample batches from."""

    def __init__(self, observation: int, actions: Tensor, batch: int) -> None:
        rows = len(actions)
        self.columns = (
            torch.randn(rows, observation),
            actions,
            torch.randn(rows, 1),
            torch.randn(rows, observation),
        )
        self.batch = batch

    def sample(self) -> list[Tensor]:
        """Draw a batch."""
        rows = torch.randint(len(self.columns[0]), (self.batch,))
        return [column[rows] for column in self.columns]


class _Checkpoints:
    """A state_dict in a file, as such programs keep it."""

    module: nn.Module

    def save(self, folder: Path) -> None:
        torch.save(self.module.state_dict(), folder / "model.pt")

    def load(self, folder: Path) -> None:
        self.module.load_state_dict(torch.load(folder / "model.pt", weights_only=True))


class DQNRun(_Checkpoints):
    """Deep Q learning with a target network that is copied now and then."""

    OBSERVATION, ACTIONS = 4, 2

    def __init__(self, fused: bool) -> None:
        torch.manual_seed(0)
        self.network = QNetwork(self.OBSERVATION, self.ACTIONS)
        if fused:
            self.network = pyfastnn.fuse(self.network)
        self.target = copy.deepcopy(self.network)
        self.module = nn.ModuleDict({"network": self.network, "target": self.target})
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=2.5e-4)
        actions = torch.randint(self.ACTIONS, (10_000, 1))
        self.replay = Transitions(self.OBSERVATION, actions, batch=128)
        self.updates = 0

    def learn(self, rounds: int) -> list[float]:
        """Update the network, and the target after every tenth update."""
        return [self._update() for _ in range(rounds)]

    def _update(self) -> float:
        observation, action, reward, after = self.replay.sample()
        with torch.no_grad():
            best = self.target(after).max(dim=1, keepdim=True).values
            wanted = reward + GAMMA * best
        loss = F.mse_loss(self.network(observation).gather(1, action), wanted)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.updates += 1
        if self.updates % 10 == 0:
            self.target.load_state_dict(self.network.state_dict())
        return loss.item()

    @torch.no_grad()
    def outputs(self) -> Tensor:
        """Q values of the first transitions."""
        return self.network(self.replay.columns[0][:16])


class SACRun(_Checkpoints):
    """Soft actor-critic: two critics with slowly following targets, and an actor."""

    OBSERVATION, ACTION = 17, 6

    def __init__(self, fused: bool) -> None:
        torch.manual_seed(0)
        self.actor = Actor(self.OBSERVATION, self.ACTION)
        self.critics = nn.ModuleList(Critic(self.OBSERVATION, self.ACTION) for _ in range(2))
        if fused:
            self.actor, self.critics = pyfastnn.fuse(self.actor), pyfastnn.fuse(self.critics)
        self.targets = copy.deepcopy(self.critics)
        parts = {"actor": self.actor, "critics": self.critics, "targets": self.targets}
        self.module = nn.ModuleDict(parts)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=1e-3)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        actions = 4 * torch.rand(10_000, self.ACTION) - 2
        self.replay = Transitions(self.OBSERVATION, actions, batch=256)

    def learn(self, rounds: int) -> list[float]:
        """Update critics, actor and targets; return the losses of both."""
        return [loss for _ in range(rounds) for loss in self._update()]

    def _update(self) -> list[float]:
        observation, action, reward, after = self.replay.sample()
        with torch.no_grad():
            next_action, density = self.actor.act(after)
            least = torch.min(*(target(after, next_action) for target in self.targets))
            wanted = reward + GAMMA * (least - ALPHA * density)
        values = [critic(observation, action) for critic in self.critics]
        critic_loss = F.mse_loss(values[0], wanted) + F.mse_loss(values[1], wanted)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()

        drawn, density = self.actor.act(observation)
        least = torch.min(*(critic(observation, drawn) for critic in self.critics))
        actor_loss = (ALPHA * density - least).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()

        for target, critic in zip(self.targets, self.critics, strict=True):
            for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                slow.data.lerp_(fast.data, 0.005)
        return [critic_loss.item(), actor_loss.item()]

    @torch.no_grad()
    def outputs(self) -> Tensor:
        """Means of the first transitions' actions, and their values."""
        observation, action = self.replay.columns[0][:16], self.replay.columns[1][:16]
        mean, log_std = self.actor(observation)
        values = [critic(observation, action) for critic in self.critics]
        return torch.cat([mean, log_std, *values], dim=1)


CLIENTS = [
    Client("DQN in a single file", "update", DQNRun, 100, 500),
    Client("SAC in a single file", "update", SACRun, 60, 25),
]
