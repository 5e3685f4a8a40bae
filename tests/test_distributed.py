"""pyfastnn under torch.distributed: two processes, and processes that hardly know it."""

import subprocess
import sys

import checks_data_parallel
import checks_sharding
import checks_tensor_parallel
import pytest
from processes import Checks

CHECKS = Checks(
    checks_data_parallel.checks | checks_sharding.checks | checks_tensor_parallel.checks
)


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> list[dict[str, str]]:
    return CHECKS.run(tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("check", CHECKS)
def test_in_two_processes(check, reports):
    for rank, report in enumerate(reports):
        assert report[check] == "passed", f"process {rank}: {report[check]}"


LATE = """
import os, sys, torch, pyfastnn
from pyfastnn.functional import linear_relu, mlp
assert "torch.distributed.tensor" not in sys.modules
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
store = torch.distributed.HashStore()
torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
from torch.distributed.tensor import DTensor, init_device_mesh
plain = torch.randn(3, 4), torch.randn(5, 4)
with CONTEXT:
    y = CALL(*[DTensor.from_local(t, init_device_mesh("cpu", (1,))) for t in plain])
torch.testing.assert_close(y.to_local().clone(), torch.relu(torch.nn.functional.linear(*plain)))
os._exit(0)
"""
WITHOUT = """
import sys

class Cut:  # away what torch looks for to know whether it was built with torch.distributed
    def find_spec(self, name, path=None, target=None):
        if name == "torch.distributed":
            for part in ("_c10d_init", "_rpc_init", "_dist_autograd_init"):
                delattr(sys.modules["torch._C"], part)

sys.meta_path.insert(0, Cut())
import torch
assert not torch.distributed.is_available()
import pyfastnn
x, model = torch.randn(3, 4), pyfastnn.MLP([4, 3, 2])
torch.testing.assert_close(model(x), torch.nn.Sequential.forward(model, x))
optimizer = torch.optim.SGD(model.parameters())
pyfastnn.TrainStep(model, torch.nn.MSELoss(), optimizer)(x, torch.randn(3, 2))
"""


def run(script: str) -> None:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


COMPILED = "torch.compile(lambda x, w: mlp(x, [w], [None], True), fullgraph=True, backend='eager')"


@pytest.mark.parametrize(
    "call, context", [("linear_relu", "torch.inference_mode()"), (COMPILED, "torch.enable_grad()")]
)
def test_dtensor_is_not_imported_and_knows_the_operators_when_one_arrives(call, context):
    run(LATE.replace("CALL", call).replace("CONTEXT", context))


def test_a_torch_without_distributed_will_do():
    run(WITHOUT)
