"""NumPy, as one writes a network by hand, and scikit-learn, whose networks are NumPy inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.inputs import LEARNING_RATE, Arrays
from benchmarks.providers import Workload
from benchmarks.providers.peers import Peer, parameters, trained
from benchmarks.shapes import Cell


class _OnOpenBlas(Peer):
    def environment(self, build_dir: Path, threads: int) -> dict[str, str]:
        """The number of threads of the BLAS, which reads it while NumPy is imported."""
        return {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}

    def _blas(self) -> str:
        from threadpoolctl import threadpool_info

        blas = next(pool for pool in threadpool_info() if pool["user_api"] == "blas")
        return f"{blas['internal_api']} {blas.get('architecture', '')}".strip()


class Numpy(_OnOpenBlas):
    """Written by hand, with ``out=`` wherever an array of a step can be used again in the next."""

    def setup(self, threads: int) -> None:
        """Nothing: the environment did it."""

    def describe(self) -> dict[str, str]:
        """Version, and the kernels its BLAS chose."""
        import numpy as np

        return {"version": np.__version__, "isa": self._blas()}

    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        """See `Provider.build`."""
        import numpy as np

        layers = parameters(cell, inputs)
        values = [inputs["input"]]
        values += [np.empty((cell.batch, n), np.float32) for n in cell.sizes[1:]]

        def forward() -> Any:
            for i, (weight, bias) in enumerate(layers):
                z = np.matmul(values[i], weight, out=values[i + 1])
                z += bias
                if i < len(layers) - 1:
                    np.maximum(z, 0, out=z)
            return values[-1]

        if cell.mode == "forward":
            return Workload(forward, lambda: {"output": forward().copy()})

        rows, target = np.arange(cell.batch), inputs["target"]
        grads = [(np.empty_like(weight), np.empty_like(bias)) for weight, bias in layers]
        deltas = [np.empty_like(value) for value in values[1:]]

        def step() -> Any:
            logits = forward()
            logits -= logits.max(axis=1, keepdims=True)
            picked = logits[rows, target]
            delta = np.exp(logits, out=deltas[-1])
            total = delta.sum(axis=1, keepdims=True)
            loss = (np.log(total[:, 0]) - picked).mean()
            delta /= total
            delta[rows, target] -= 1
            delta /= np.float32(cell.batch)
            for i in reversed(range(len(layers))):
                np.matmul(values[i].T, deltas[i], out=grads[i][0])
                np.sum(deltas[i], axis=0, out=grads[i][1])
                if i:
                    np.matmul(deltas[i], layers[i][0].T, out=deltas[i - 1])
                    np.multiply(deltas[i - 1], values[i] > 0, out=deltas[i - 1])
                for parameter, grad in zip(layers[i], grads[i], strict=True):
                    grad *= np.float32(LEARNING_RATE)
                    parameter -= grad
            return loss

        return Workload(step, lambda: trained(step(), layers))


class ScikitLearn(_OnOpenBlas):
    """``MLPClassifier.partial_fit`` with one batch and plain SGD; its checks are in the time."""

    modes = ("train_step",)

    def supports(self, cell: Cell) -> bool:
        """Not two classes: those it trains with one output and the logistic loss."""
        return super().supports(cell) and cell.sizes[-1] > 2

    def setup(self, threads: int) -> None:
        """Import it; the environment set the threads."""
        import sklearn.neural_network  # noqa: F401

    def describe(self) -> dict[str, str]:
        """Version, and the kernels the BLAS of its NumPy chose."""
        import sklearn

        return {"version": sklearn.__version__, "isa": self._blas()}

    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        """See `Provider.build`."""
        import numpy as np
        from sklearn.neural_network import MLPClassifier

        x, target = inputs["input"], inputs["target"]
        model = MLPClassifier(
            hidden_layer_sizes=cell.sizes[1:-1],
            solver="sgd",
            alpha=0,
            batch_size=cell.batch,
            learning_rate_init=LEARNING_RATE,
            momentum=0,
            nesterovs_momentum=False,
            shuffle=False,
        )
        model.partial_fit(x, target, classes=np.arange(cell.sizes[-1]))  # makes the parameters
        # In place, because the optimizer keeps these very arrays.
        for weight, bias, (new_weight, new_bias) in zip(
            model.coefs_, model.intercepts_, parameters(cell, inputs), strict=True
        ):
            weight[:], bias[:] = new_weight, new_bias

        def step() -> Any:
            return model.partial_fit(x, target)

        def results() -> Arrays:
            step()
            layers = list(zip(model.coefs_, model.intercepts_, strict=True))
            return trained(model.loss_, layers)

        return Workload(step, results)
