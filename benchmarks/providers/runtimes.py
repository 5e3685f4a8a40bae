"""ONNX Runtime and OpenVINO: inference only, of the same ONNX model, NumPy in and NumPy out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.inputs import Arrays
from benchmarks.providers import Workload
from benchmarks.providers.peers import Peer
from benchmarks.shapes import Cell


def onnx_model(cell: Cell, inputs: Arrays) -> bytes:
    """The network as an ONNX file with a fixed batch: ``Gemm`` and ``Relu`` nodes, as exported."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, value = [], [], "input"
    depth = len(cell.sizes) - 1
    for i in range(depth):
        names = [f"weight.{i}", f"bias.{i}"]
        constants += [numpy_helper.from_array(inputs[name], name) for name in names]
        last = i == depth - 1
        result = "output" if last else f"z.{i}"
        nodes.append(helper.make_node("Gemm", [value, *names], [result], transB=1))
        if not last:
            value = f"y.{i}"
            nodes.append(helper.make_node("Relu", [result], [value]))
    ends = (("input", cell.sizes[0]), ("output", cell.sizes[-1]))
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [cell.batch, width])
        for name, width in ends
    )
    graph = helper.make_graph(nodes, "network", [x], [y], constants)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


class _Runtime(Peer):
    modes = ("forward",)
    _threads = 1

    def setup(self, threads: int) -> None:
        """Import what `build` uses; each model is given the number of threads."""
        import onnx  # noqa: F401

        self._threads = threads


class OnnxRuntime(_Runtime):
    """``InferenceSession.run`` with all graph optimizations."""

    def setup(self, threads: int) -> None:
        """See `_Runtime.setup`; only errors in its log."""
        import onnxruntime

        super().setup(threads)
        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(3)

    def describe(self) -> dict[str, str]:
        """Version and kernels."""
        import onnxruntime

        return {"version": onnxruntime.__version__, "isa": "mlas"}

    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        """See `Provider.build`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            onnx_model(cell, inputs), options, providers=["CPUExecutionProvider"]
        )
        feed = {"input": inputs["input"]}

        def step() -> Any:
            return session.run(None, feed)

        return Workload(step, lambda: {"output": step()[0]})


class OpenVino(_Runtime):
    """One inference request, in float32, on arrays that it shares with NumPy."""

    def environment(self, build_dir: Path, threads: int) -> dict[str, str]:
        """Only errors in its log."""
        return {"OPENVINO_LOG_LEVEL": "0"}

    def setup(self, threads: int) -> None:
        """See `_Runtime.setup`."""
        import openvino

        super().setup(threads)
        self._core = openvino.Core()

    def describe(self) -> dict[str, str]:
        """Version, and whose kernels its CPU plugin runs."""
        import openvino

        return {"version": openvino.__version__.partition("-")[0], "isa": "onednn"}

    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        """See `Provider.build`."""
        model = self._core.read_model(onnx_model(cell, inputs), b"")
        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # it may take bfloat16 otherwise
            "ENABLE_CPU_PINNING": False,  # the process is pinned from outside, as all are
        }
        request = self._core.compile_model(model, "CPU", settings).create_infer_request()
        x = inputs["input"]

        def step() -> Any:
            return request.infer([x], share_inputs=True, share_outputs=True)

        return Workload(step, lambda: {"output": step()[0].copy()})
