"""The demo of DistributedDataParallel under torchrun."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import ddp_mnist

EXAMPLES, TESTS = Path(ddp_mnist.__file__).parent, Path(__file__).parent
# Synthetic images in place of a download; before the report, one look at models that differ.
SCRIPT = f"""
import sys
sys.path[:0] = [{str(EXAMPLES)!r}, {str(TESTS)!r}]
import data_fakes, ddp_mnist
report = ddp_mnist.report
def look_and_report(model, *args, **options):
    weight = next(model.parameters()).data
    saved = weight.clone()
    weight[0, 0] += ddp_mnist.dist.get_rank()
    # In one piece, so that lines of two processes do not mix.
    sys.stdout.write("same although changed: " + str(ddp_mnist.all_hold_the_same(model)) + "\\n")
    sys.stdout.flush()
    weight.copy_(saved)
    return report(model, *args, **options)
ddp_mnist.report = look_and_report
ddp_mnist.load_digits = lambda folder: data_fakes.synthetic_digits(learnable=True)
sys.exit(ddp_mnist.main())
"""


def test_two_processes_learn_and_hold_the_same_parameters(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*torchrun, str(script), "--epochs", "6", "--batch-size", "20"],
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "epoch 6 of 6: loss 0.0" in result.stdout
    assert result.stdout.count("2 processes, test accuracy on MNIST 100.00%") == 1
    assert result.stdout.count("all processes hold the same parameters: yes") == 1
    assert result.stdout.count("same although changed: False") == 2


def test_without_torchrun_it_says_how_to_start(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ddp_mnist.py"])
    assert ddp_mnist.main() == 1
    assert "torchrun --nproc-per-node 2 examples/ddp_mnist.py" in capsys.readouterr().err
