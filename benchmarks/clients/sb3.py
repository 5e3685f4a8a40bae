"""Stable-Baselines3 on the classic control tasks of Gymnasium, with its default networks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from torch import Tensor

import pyfastnn
from benchmarks.clients.run import Client

WARM_UP = 100  # steps of the environment before the first update


class Losses(Logger):
    """A logger that keeps every loss."""

    def __init__(self) -> None:
        super().__init__(folder=None, output_formats=[])
        self.values: list[float] = []

    def record(self, key: str, value: Any, exclude: Any = None) -> None:
        """Keep a loss, drop everything else."""
        if key.startswith("train/") and key.endswith("loss"):
            self.values.append(float(value))


class SB3Run:
    """One update after every step of the environment."""

    def __init__(self, algorithm: type[Any], task: str, options: dict[str, Any], fused: bool):
        self.model = algorithm(
            "MlpPolicy",
            gymnasium.make(task),
            learning_starts=WARM_UP,
            train_freq=1,
            buffer_size=10_000,
            device="cpu",
            seed=0,
            **options,
        )
        if fused:
            pyfastnn.fuse(self.model.policy, inplace=True)
        self.module = self.model.policy
        self.losses = Losses()
        self.model.set_logger(self.losses)

    def learn(self, rounds: int) -> list[float]:
        """Train for some steps; the first call fills the replay buffer a little before.

        Returns:
            The losses, then the rewards, so that a curve tells what was played too.
        """
        self.losses.values.clear()
        played = self.model.num_timesteps
        self.model.learn(rounds if played else WARM_UP + rounds, reset_num_timesteps=False)
        rewards = self.model.replay_buffer.rewards[played : self.model.num_timesteps]
        return [*self.losses.values, *rewards.flatten().tolist()]

    def outputs(self) -> Tensor:
        """Q values (DQN) or actions for fixed observations."""
        shape = (16, *self.model.observation_space.shape)
        observations = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        if isinstance(self.model, DQN):
            with torch.no_grad():
                return self.model.policy.q_net(torch.from_numpy(observations))
        return torch.from_numpy(self.model.predict(observations, deterministic=True)[0])

    def save(self, folder: Path) -> None:
        """Write the zip file of the library."""
        self.model.save(folder / "model.zip")

    def load(self, folder: Path) -> None:
        """Read it into the model that is there."""
        self.model.set_parameters(folder / "model.zip", device="cpu")


def _client(algorithm: type[Any], task: str, compared: int, timed: int, **options: Any) -> Client:
    make = partial(SB3Run, algorithm, task, options)
    name = f"Stable-Baselines3 {algorithm.__name__}, {task}"
    return Client(name, "step", make, compared, timed)


CLIENTS = [
    _client(DQN, "CartPole-v1", 200, 500, target_update_interval=20, tau=0.5),
    _client(SAC, "Pendulum-v1", 60, 50),
    _client(
        TD3, "Pendulum-v1", 60, 50, action_noise=NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))
    ),
]
