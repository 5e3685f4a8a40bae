"""JAX and TensorFlow: a step written as a function of arrays, compiled as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.inputs import LEARNING_RATE, Arrays
from benchmarks.providers import Workload
from benchmarks.providers.capture import caught_output
from benchmarks.providers.peers import Peer, parameters, trained
from benchmarks.shapes import Cell


class Jax(Peer):
    """``jax.jit`` of the whole step; old parameters are donated to the new ones."""

    def environment(self, build_dir: Path, threads: int) -> dict[str, str]:
        """CPU only. The number of threads comes from the cores that the process may use."""
        return {"JAX_PLATFORMS": "cpu"}

    def setup(self, threads: int) -> None:
        """Import it and start its CPU client, which makes the threads."""
        import jax

        # A step is waited for anyway: handing it to another thread would only add to its time.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        jax.devices()

    def describe(self) -> dict[str, str]:
        """Version and compiler."""
        import jax

        return {"version": jax.__version__, "isa": "xla"}

    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        """See `Provider.build`."""
        import jax
        import jax.numpy as jnp
        import numpy as np

        x = jnp.array(inputs["input"])
        layers = jax.tree.map(jnp.array, parameters(cell, inputs))

        def network(layers: Any, x: Any) -> Any:
            for weight, bias in layers[:-1]:
                x = jax.nn.relu(x @ weight + bias)
            weight, bias = layers[-1]
            return x @ weight + bias

        if cell.mode == "forward":
            compiled = jax.jit(network)

            def forward() -> Any:
                return compiled(layers, x).block_until_ready()

            return Workload(forward, lambda: {"output": np.array(forward())})

        target = jnp.array(inputs["target"], jnp.int32)

        def loss_of(layers: Any, x: Any, target: Any) -> Any:
            logits = jax.nn.log_softmax(network(layers, x))
            return -jnp.mean(jnp.take_along_axis(logits, target[:, None], axis=1))

        def update(layers: Any, x: Any, target: Any) -> Any:
            loss, grads = jax.value_and_grad(loss_of)(layers, x, target)
            return loss, jax.tree.map(lambda p, grad: p - LEARNING_RATE * grad, layers, grads)

        train = jax.jit(update, donate_argnums=0)

        def step() -> Any:
            nonlocal layers
            loss, layers = train(layers, x, target)
            return jax.block_until_ready((loss, layers))[0]

        return Workload(step, lambda: trained(step(), layers))


class TensorFlow(Peer):
    """``tf.function`` of the whole step, with ``GradientTape`` and one SGD operation per array."""

    jit_compile = False

    def environment(self, build_dir: Path, threads: int) -> dict[str, str]:
        """Only errors in its log."""
        return {"TF_CPP_MIN_LOG_LEVEL": "3"}

    def setup(self, threads: int) -> None:
        """Import it and limit its threads."""
        # It says each time, below the level of every setting, that it uses oneDNN.
        with caught_output(2):
            import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)

    def describe(self) -> dict[str, str]:
        """Version and compiler."""
        import tensorflow as tf

        return {"version": tf.__version__, "isa": "xla" if self.jit_compile else "onednn"}

    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        """See `Provider.build`."""
        import tensorflow as tf

        x = tf.constant(inputs["input"])
        layers = [(tf.Variable(w), tf.Variable(b)) for w, b in parameters(cell, inputs)]
        flat = [parameter for layer in layers for parameter in layer]

        def network(x: Any) -> Any:
            for i, (weight, bias) in enumerate(layers):
                x = tf.nn.bias_add(tf.matmul(x, weight), bias)
                if i < len(layers) - 1:
                    x = tf.nn.relu(x)
            return x

        if cell.mode == "forward":
            compiled = tf.function(network, jit_compile=self.jit_compile)
            # Operations on the CPU are done when the call returns.
            return Workload(lambda: compiled(x), lambda: {"output": compiled(x).numpy()})

        target = tf.constant(inputs["target"])

        @tf.function(jit_compile=self.jit_compile)
        def train(x: Any, target: Any) -> Any:
            with tf.GradientTape() as tape:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target, network(x))
                loss = tf.reduce_mean(losses)
            for parameter, grad in zip(flat, tape.gradient(loss, flat), strict=True):
                tf.raw_ops.ResourceApplyGradientDescent(
                    var=parameter.handle, alpha=LEARNING_RATE, delta=grad
                )
            return loss

        def results() -> Arrays:
            loss = train(x, target).numpy()
            return trained(loss, [(w.numpy(), b.numpy()) for w, b in layers])

        return Workload(lambda: train(x, target).numpy(), results)


class TensorFlowXla(TensorFlow):
    """The same with ``jit_compile=True``: faster for some networks, slower for others."""

    jit_compile = True
