"""Checkpoints of each library, written fused and read plain, and the other way."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from stable_baselines3 import DQN, SAC, TD3

import pyfastnn
from benchmarks.clients import CLIENTS, Client
from benchmarks.clients.lightning import Classifier, LightningRun, trainer
from benchmarks.clients.sb3 import SB3Run
from benchmarks.clients.skorch_classifier import SkorchRun, digits


def assert_same_parameters(module: torch.nn.Module, other: torch.nn.Module) -> None:
    state, wanted = module.state_dict(), other.state_dict()
    assert list(state) == list(wanted)
    for name, tensor in state.items():
        assert torch.equal(tensor, wanted[name]), name


@pytest.mark.parametrize("fused", [True, False], ids=["fused to plain", "plain to fused"])
def test_a_checkpoint_loads(client: Client, fused: bool, tmp_path: Path):
    trained = client.make(fused)
    trained.learn(2)
    trained.save(tmp_path)
    fresh = client.make(not fused)
    fresh.load(tmp_path)
    assert_same_parameters(fresh.module, trained.module)
    torch.testing.assert_close(fresh.outputs(), trained.outputs())
    assert len(fresh.learn(1)) > 0


@pytest.mark.parametrize("algorithm", [DQN, SAC, TD3])
def test_a_fused_zip_file_of_stable_baselines_makes_a_plain_model(algorithm, tmp_path: Path):
    client = next(c for name, c in CLIENTS.items() if f" {algorithm.__name__}," in name)
    run = client.make(True)
    assert isinstance(run, SB3Run)
    run.learn(5)
    run.save(tmp_path)
    loaded = algorithm.load(tmp_path / "model.zip", device="cpu")
    assert_same_parameters(loaded.policy, run.module)
    assert not pyfastnn.fusion_report(loaded.policy).fused
    pyfastnn.fuse(loaded.policy, inplace=True)
    assert pyfastnn.fusion_report(loaded.policy).fused


def test_a_lightning_checkpoint_makes_a_plain_model_and_resumes_a_fused_one(tmp_path: Path):
    run = LightningRun(fused=True)
    run.learn(2)
    run.save(tmp_path)
    path = tmp_path / "model.ckpt"
    assert_same_parameters(Classifier.load_from_checkpoint(path), run.module)
    epochs = trainer(3)
    resumed = pyfastnn.fuse(Classifier(), inplace=True)
    epochs.fit(resumed, run.train, run.validation, ckpt_path=path)
    assert epochs.current_epoch == 3 and len(resumed.losses) == len(run.learn(1))


def test_a_fused_skorch_classifier_is_cloned_pickled_and_cross_validated():
    net = SkorchRun(fused=True).net
    pixels, labels = digits()
    for other in (clone(net), pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        other.partial_fit(pixels, labels)
        assert pyfastnn.fusion_report(other.module_).fused
    assert cross_val_score(net.set_params(max_epochs=20), pixels, labels, cv=2).min() > 0.8
