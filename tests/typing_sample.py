"""A user's code, for mypy: assert_type is what it must know, an ignore what it must refuse.

``mypy --strict`` also refuses an ignore that nothing needs. test_typing.py runs it; the file itself
is never executed.
"""

from typing import assert_type

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import pyfastnn
from pyfastnn.autograd import LinearReLUFunction, MLPFunction
from pyfastnn.explain import LayerTrace, LayerWarning, WeightCheck
from pyfastnn.functional import linear_relu, mlp
from pyfastnn.packing import PackedMLP
from pyfastnn.sklearn import MLPClassifier, MLPRegressor

x, weight, bias = torch.randn(8, 4), torch.randn(3, 4), torch.randn(3)
digits = torch.randint(3, (8,))

layer = pyfastnn.LinearReLU(4, 3, bias=False, device="cpu", dtype=torch.float32)
assert_type(layer(x), Tensor)
assert_type(layer.weight, Tensor)
assert_type(layer.double(), pyfastnn.LinearReLU)
pyfastnn.LinearReLU("4", 3)  # type: ignore[arg-type]
layer(x, x)  # type: ignore[call-arg]

model = pyfastnn.MLP([4, 5, 3], activate_last=True, dtype=torch.float64)
assert_type(model(x), Tensor)
assert_type(model[0], nn.Module)
assert_type(model[1:], nn.Sequential)
assert_type(model.fallback_reason(), str | None)
pyfastnn.MLP(4, 3)  # type: ignore[arg-type]
pyfastnn.MLP([4, 3], activation="relu")  # type: ignore[call-arg]
model("x")  # type: ignore[arg-type]

step = pyfastnn.TrainStep(
    model,
    nn.CrossEntropyLoss(),
    torch.optim.Adam(model.parameters()),
    compute_dtype=torch.bfloat16,
    max_grad_norm=1.0,
)
assert_type(step(x, digits), Tensor)
assert_type(step.run_epoch(x, digits, 4, shuffle=False, scale=1 / 255), float)
step(x)  # type: ignore[call-arg]
step.run_epoch(x, digits, batch_size="4")  # type: ignore[arg-type]
pyfastnn.TrainStep(model, nn.MSELoss(), "adam")  # type: ignore[arg-type]

packed = pyfastnn.prepack(model)
assert_type(packed, PackedMLP)
assert_type(packed(x), Tensor)
assert_type(packed.is_stale(model), bool)
pyfastnn.prepack(x)  # type: ignore[arg-type]


class Network(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


fused = pyfastnn.fuse(Network(), inplace=True)
assert_type(fused, Network)
assert_type(pyfastnn.unfuse(fused), Network)
assert_type(pyfastnn.unfuse(model), nn.Sequential)
report = pyfastnn.fusion_report(fused)
assert_type(report, pyfastnn.FusionReport)
assert_type(report.fused, dict[str, str])
pyfastnn.fuse(fused.forward)  # type: ignore[type-var]
pyfastnn.fuse(fused, inplace="yes")  # type: ignore[arg-type]
pyfastnn.unfuse([fused])  # type: ignore[call-overload]
pyfastnn.fusion_report(x)  # type: ignore[arg-type]

assert_type(linear_relu(x, weight), Tensor)
assert_type(pyfastnn.functional.linear_relu(x, weight, bias), Tensor)
linear_relu(x, weight, 1.0)  # type: ignore[arg-type]
assert_type(mlp(x, [weight], [None], activate_last=True), Tensor)
assert_type(pyfastnn.functional.mlp(x, (weight,), (bias,)), Tensor)
mlp(x, [weight], [1.0])  # type: ignore[list-item]

assert_type(LinearReLUFunction.apply(x, weight, None), Tensor)
assert_type(pyfastnn.autograd.MLPFunction.apply(x, False, weight, bias), Tensor)
LinearReLUFunction.apply(x, weight)  # type: ignore[call-arg]
MLPFunction.apply(x, False, weight, 1.0)  # type: ignore[arg-type]

loss_fn = nn.CrossEntropyLoss()
trace = pyfastnn.explain_backward(model, x, digits, loss_fn, lr=0.1)
assert_type(trace, pyfastnn.BackwardTrace)
assert_type(trace.layers, list[LayerTrace])
assert_type(trace["0"].factor, float | None)
assert_type(trace.warnings, list[LayerWarning])
assert_type(trace.weight("0", 1, 2), WeightCheck)
assert_type(trace.scalars(), dict[str, float])
assert_type(trace.plot(), Figure)
trace.weight(0, 1, 2)  # type: ignore[arg-type]
pyfastnn.explain_backward(model, x, digits, "loss")  # type: ignore[arg-type]
pyfastnn.explain_backward(model, [x], digits, loss_fn)  # type: ignore[arg-type]
log = pyfastnn.BackwardLogger("runs", model, loss_fn, every=10)
assert_type(log(0, x, digits), pyfastnn.BackwardTrace | None)
pyfastnn.BackwardLogger(3, model, loss_fn)  # type: ignore[arg-type]
values = pyfastnn.layer_outputs(model, x)
assert_type(values, dict[str, Tensor])

axes = pyfastnn.plot.first_layer(weight, (2, 2))
assert_type(axes, Axes)
assert_type(pyfastnn.plot.top_inputs(values["0"], x, (2, 2), [0, 1], axes=axes), Axes)
assert_type(pyfastnn.plot.images(x, (2, 2), ["a"]), Axes)
assert_type(pyfastnn.plot.loss_curves({"a": [1.0], "b": x[0]}, axes), Axes)
assert_type(pyfastnn.plot.accuracy_curves({"a": [1.0]}), Axes)
assert_type(pyfastnn.plot.confusion_matrix(digits, [0, 1], names=["a", "b"]), Axes)
assert_type(pyfastnn.plot.roc(digits, x[:, 0], name="net", color="red"), Axes)
assert_type(pyfastnn.plot.precision_recall([0, 1], [0.5, 0.6]), Axes)
pyfastnn.plot.first_layer(weight, 28)  # type: ignore[arg-type]
pyfastnn.plot.roc(digits)  # type: ignore[call-arg]
assert_type(MLPClassifier(alpha=0.1).to_torch(), nn.Sequential)
assert_type(MLPRegressor.from_sklearn(MLPRegressor()), MLPRegressor)

assert_type(pyfastnn.available_isas(), list[str])
assert_type(pyfastnn.active_isa(), str)
with pyfastnn.force_isa("baseline") as forced:
    assert_type(forced, pyfastnn.force_isa)
pyfastnn.force_isa(2)  # type: ignore[arg-type]

assert_type(pyfastnn.__version__, str)
pyfastnn.no_such_name  # type: ignore[attr-defined]  # noqa: B018
