"""Trains a 784-128-64-10 network on MNIST in several processes with DistributedDataParallel.

Each process takes its share of every batch; the gradients are averaged while the backward runs.
Nothing in it is special to pyfastnn: the model is `pyfastnn.MLP`, the rest is PyTorch's own.
Prints the accuracy, and whether all processes hold the same parameters; exits with 1 if not, or if
the accuracy is too low.

Two processes on this machine:
    torchrun --nproc-per-node 2 examples/ddp_mnist.py

Four machines with two processes each: run this on every one of them, where `first` is the name of
one of the four, the same for all, and the port is free there:
    torchrun --nnodes 4 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint first:29500 \
        --rdzv-id mnist examples/ddp_mnist.py

Every machine needs the repository, the same torch and the network between them. If a machine has
several networks, GLOO_SOCKET_IFNAME names the interface (`ip address` lists them). torchrun gives
each process one thread; OMP_NUM_THREADS changes that.

The other way is `pyfastnn.TrainStep`, which has no autograd and one all-reduce for each step.
Instead of DistributedDataParallel, with the whole data set in every process:
    step = pyfastnn.TrainStep(
        model, nn.CrossEntropyLoss(), optimizer, process_group=dist.group.WORLD
    )
    step.run_epoch(images, labels, batch_size)  # batch_size rows in all processes together
"""

from __future__ import annotations

import argparse
import os
import sys

import torch
import torch.distributed as dist
from archives import FetchError, WrongArchiveError, cache_folder
from digits import Digits, load_digits
from mnist import (
    FULL_ACCURACY,
    FULL_EPOCHS,
    QUICK_BATCHES,
    QUICK_EPOCHS,
    SIZES,
    SUBSET_ACCURACY,
    SUBSET_EPOCHS,
)
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler
from training import predict

import pyfastnn

COMMAND = "torchrun --nproc-per-node 2 examples/ddp_mnist.py"


def main() -> int:
    """Train in the processes that torchrun has started; return the exit status."""
    options = parse_arguments()
    if not dist.is_torchelastic_launched():
        print(f"ERROR: start with: {COMMAND}", file=sys.stderr)
        return 1
    dist.init_process_group("gloo")
    try:
        digits = load_in_turn()
    except (FetchError, WrongArchiveError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    torch.manual_seed(options.seed)
    model = DistributedDataParallel(pyfastnn.MLP(SIZES))
    train(model, digits, options)
    status = report(model.module, digits, any_accuracy=options.quick)
    dist.barrier()
    dist.destroy_process_group()
    return status


def load_in_turn() -> Digits:
    """Load the data; the first process of each machine fetches it for the others there."""
    is_first = os.environ["LOCAL_RANK"] == "0"
    if is_first:
        digits = load_digits(cache_folder())
    dist.barrier()
    return digits if is_first else load_digits(cache_folder())


def train(model: nn.Module, digits: Digits, options: argparse.Namespace) -> None:
    """Train for some epochs; every process meets other rows of each batch."""
    images, labels = digits.train_images, digits.train_labels
    epochs = options.epochs or (FULL_EPOCHS if digits.is_full else SUBSET_EPOCHS)
    if options.quick:
        rows = QUICK_BATCHES * options.batch_size
        images, labels, epochs = images[:rows], labels[:rows], QUICK_EPOCHS
    sampler: DistributedSampler[int] = DistributedSampler(range(len(images)), seed=options.seed)
    share = max(1, options.batch_size // dist.get_world_size())
    loss_fn, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)  # another order
        losses = []
        for rows in torch.tensor(list(sampler)).split(share):
            optimizer.zero_grad()
            loss = loss_fn(model(images[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        if dist.get_rank() == 0:
            mean = torch.stack(losses).mean().item()
            print(f"epoch {epoch + 1} of {epochs}: loss {mean:.4f} on these rows", flush=True)


def report(model: nn.Module, digits: Digits, any_accuracy: bool) -> int:
    """Print what the first process has to say; return the exit status."""
    same = all_hold_the_same(model)
    accuracy = (predict(model, digits.test_images) == digits.test_labels).double().mean().item()
    wanted = FULL_ACCURACY if digits.is_full else SUBSET_ACCURACY
    accurate = any_accuracy or accuracy >= wanted
    if dist.get_rank() == 0:
        print(f"{dist.get_world_size()} processes, test accuracy on {digits.name} {accuracy:.2%}")
        print(f"all processes hold the same parameters: {'yes' if same else 'NO'}")
        if any_accuracy:
            print("quick run: no claim about accuracy")
        elif not accurate:
            print(f"ERROR: expected a test accuracy of at least {wanted:.0%}", file=sys.stderr)
    return 0 if same and accurate else 1


def all_hold_the_same(model: nn.Module) -> bool:
    """Whether the parameters have the same bits in all processes."""
    own = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    others = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(others, own)
    return all(torch.equal(own, other) for other in others)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train on MNIST with DistributedDataParallel around pyfastnn.MLP."
    )
    add = parser.add_argument
    add("--epochs", type=int, help=f"default: {FULL_EPOCHS}, with the subset {SUBSET_EPOCHS}")
    add("--batch-size", type=int, default=64, help="of all processes; default: %(default)s")
    add("--seed", type=int, default=0, help="of weights and order; default: %(default)s")
    add("--quick", action="store_true", help=f"{QUICK_EPOCHS} epochs of {QUICK_BATCHES} batches")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
