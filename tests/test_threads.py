"""Several Python threads, and processes that fork."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from cases import Size, draw
from tolerance import assert_same_bits

import pyfastnn
from pyfastnn.functional import mlp

SIZES = [Size(64, (784, 128, 64, 10)), Size(1, (784, 128, 10)), Size(700, (64, 64, 64))]


def train(size: Size) -> list[torch.Tensor]:
    arguments = draw(size, torch.float32).requires_grad()
    y = mlp(*arguments)
    return [y.detach(), *torch.autograd.grad(y.sum(), arguments.tensors())]


def test_calls_from_several_python_threads_do_not_disturb_each_other():
    want = {size: train(size) for size in SIZES}
    jobs = SIZES * 20
    with ThreadPoolExecutor(max_workers=4) as pool:
        for size, results in zip(jobs, pool.map(train, jobs), strict=True):
            for got, right in zip(results, want[size], strict=True):
                assert_same_bits(got, right, str(size))


def test_a_graph_built_in_one_thread_runs_backward_in_another():
    arguments = draw(SIZES[0], torch.float32).requires_grad()
    loss = mlp(*arguments).sum()
    with ThreadPoolExecutor(max_workers=1) as pool:
        got = pool.submit(torch.autograd.grad, loss, arguments.tensors()).result()
    for ours, right in zip(got, train(SIZES[0])[1:], strict=True):
        assert_same_bits(ours, right)


FORK = """
import os, signal, torch
from pyfastnn.functional import linear_relu

torch.set_num_threads(2)
x, w = torch.randn(2000, 300), torch.randn(400, 300, requires_grad=True)
grad = torch.randn(2000, 400)
{before_fork}

def step():  # nothing here but our kernels may use threads: those of torch hang in a child
    y = linear_relu(x, w)
    results = y.detach(), torch.autograd.grad(y, w, grad)[0]
    return [result.numpy().tobytes() for result in results]

before = step()
pid = os.fork()
if pid == 0:
    signal.alarm(60)  # a child that waits for threads that are gone ends by this signal
    {in_child}
    after = step()
    os._exit(0 if before == after else 1)
assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize(
    "before_fork, in_child",
    [
        ("", "torch.set_num_threads(1)"),
        ("torch.mm(x, w.detach().T)", "torch.set_num_threads(1)"),
        ("", "pass"),
    ],
    ids=["one thread in the child", "torch used threads too", "threads not set in the child"],
)
def test_a_child_forked_after_threaded_work_computes_the_same_bits(before_fork, in_child):
    run_python(FORK.format(before_fork=before_fork, in_child=in_child))


def test_workers_of_a_data_loader_can_run_the_kernels():
    run_python("""
        import torch
        from torch.utils.data import DataLoader, Dataset
        from pyfastnn.functional import linear_relu

        w = torch.randn(400, 300)
        class Rows(Dataset):
            def __len__(self): return 64
            def __getitem__(self, i): return linear_relu(torch.full((32, 300), float(i)), w)

        torch.set_num_threads(2)
        linear_relu(torch.randn(2000, 300), w)
        loader = DataLoader(Rows(), batch_size=16, num_workers=2, timeout=60)
        for batch, got in enumerate(loader):
            for i in range(16):
                want = linear_relu(torch.full((32, 300), float(16 * batch + i)), w)
                assert torch.equal(got[i], want)
    """)


def run_python(program: str) -> None:
    root = Path(pyfastnn.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
