"""``python -m pyfastnn``: info tells the facts, check turns red when a kernel is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

import pyfastnn
from pyfastnn import __main__, _build_info, check, reference

ROOT = Path(pyfastnn.__file__).parents[1]


def test_info_tells_versions_instruction_sets_threads_and_cuda(capsys):
    assert __main__.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = dict(line.split("  ", 1) for line in lines)
    facts = {name: fact.strip() for name, fact in facts.items()}
    assert facts["pyfastnn"] == pyfastnn.__version__
    assert facts["torch running"] == torch.__version__
    assert facts["torch built against"].startswith("2.")
    assert facts["instruction sets"].split(", ") == pyfastnn.available_isas()
    assert facts["active instruction set"] == pyfastnn.active_isa()
    assert facts["threads"].startswith(f"{torch.get_num_threads()} of ")
    archs = _build_info.CUDA_ARCHS
    assert facts["CUDA kernels"] == (f"built for {archs}" if archs else "not built")


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit) as stop:
        __main__.main([])
    assert stop.value.code == 2
    assert "info" in capsys.readouterr().err


def test_check_passes_on_every_instruction_set():
    result = run("-m", "pyfastnn", "check")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("all checks passed\n")
    for isa in pyfastnn.available_isas():
        rows = [line for line in result.stdout.splitlines() if line.split()[0] == isa]
        assert len(rows) == len(check.DTYPES) + 2  # gradcheck, gradgradcheck
        assert all(row.endswith("ok") for row in rows)


# Each takes the place of a kernel in the dispatcher. The two forward operators do not call each
# other, so that one can be spoiled with the help of the other.
ops = torch.ops.pyfastnn


def forget_the_bias(input, weight, bias=None):
    return ops.mlp_forward(input, [weight], [None], True)[0]


def spoil_one_column_in_a_tile_edge(input, weight, bias=None):
    y = ops.mlp_forward(input, [weight], [bias], True)[0]
    y[..., 32:33] *= 1.001
    return y


def round_twice(input, weight, bias=None):
    y = (input.double() @ weight.double().T).to(input.dtype)
    return torch.relu(y if bias is None else y + bias)


def double_the_output_on_one_isa(input, weight, bias=None):
    y = ops.mlp_forward(input, [weight], [bias], True)[0]
    return 2 * y if pyfastnn.active_isa() == "baseline" else y


def make_nan(input, weight, bias=None):
    return ops.mlp_forward(input, [weight], [bias], True)[0].fill_(float("nan"))


def forget_the_mask(grad_output, input, weights, outputs, activate_last, needs_grad):
    outputs = [torch.ones_like(output) for output in outputs]
    return reference.mlp_backward(grad_output, input, weights, outputs, activate_last, needs_grad)


def miss_the_last_row(grad_output, input, weights, outputs, activate_last, needs_grad):
    grad_output = grad_output.clone()
    grad_output[-1] = 0
    return reference.mlp_backward(grad_output, input, weights, outputs, activate_last, needs_grad)


def fail(*arguments):
    raise RuntimeError("planted")


def name_of(value) -> str:
    return getattr(value, "__name__", value)


PLANTED = [
    ("linear_relu", forget_the_bias),
    ("linear_relu", spoil_one_column_in_a_tile_edge),
    ("linear_relu", round_twice),
    ("linear_relu", double_the_output_on_one_isa),
    ("linear_relu", make_nan),
    ("mlp_backward", forget_the_mask),
    ("mlp_backward", miss_the_last_row),
    ("mlp_backward", fail),
]


@pytest.mark.filterwarnings("ignore:Warning only once for all operators:UserWarning")
@pytest.mark.parametrize("operator, kernel", PLANTED, ids=name_of)
def test_a_planted_wrong_kernel_turns_check_red(operator, kernel, monkeypatch, capsys):
    monkeypatch.setattr(check, "VALUE_SIZES", check.VALUE_SIZES[2:4] + check.VALUE_SIZES[-1:])
    monkeypatch.setattr(check, "SMALL_SIZES", check.SMALL_SIZES[:1])
    monkeypatch.setattr(check, "GRADCHECK_SIZES", check.GRADCHECK_SIZES[:1])
    monkeypatch.setattr(check, "available_isas", lambda: ["baseline", pyfastnn.active_isa()])
    with torch.library._scoped_library("pyfastnn", "IMPL") as library:
        library.impl(operator, kernel, "CPU")
        assert __main__.main(["check"]) == 1
    output = capsys.readouterr().out
    assert output.splitlines()[-1].endswith("checks FAILED")
    if kernel is double_the_output_on_one_isa and pyfastnn.active_isa() != "baseline":
        red = {line.split()[0] for line in output.splitlines() if line.endswith(" FAILED")}
        assert "baseline" in red and pyfastnn.active_isa() not in red


@pytest.mark.parametrize("name", ["gradcheck", "gradgradcheck"])
def test_a_failing_gradient_check_turns_check_red(name, monkeypatch, capsys):
    def failing(function, arguments):
        raise GradcheckError("planted")

    failing.__name__ = name
    monkeypatch.setattr(check, name, failing)
    monkeypatch.setattr(check, "DTYPES", ())
    monkeypatch.setattr(check, "available_isas", lambda: ["baseline"])
    assert check.main() == 1
    output = capsys.readouterr().out
    assert f"{name}, float64" in output and "planted" in output


def test_the_exit_status_of_the_command_is_that_of_the_check():
    program = "import sys, pyfastnn.check; pyfastnn.check.main = lambda: 1; "
    program += "import runpy; sys.argv[1:] = ['check']; "
    program += "runpy.run_module('pyfastnn', run_name='__main__')"
    assert run("-c", program).returncode == 1


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
