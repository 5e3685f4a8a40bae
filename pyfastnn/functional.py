"""The operators as functions, with the documentation that users read."""

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from pyfastnn import _C, _build_info
from pyfastnn._sparse import CsrMatrix, is_of_scipy, is_sparse, sparse_mlp

# Looked up once: a call of a small layer takes 1.5 us, and every name on the way to it 0.05.
_linear_relu = torch.ops.pyfastnn.linear_relu.default
_mlp = torch.ops.pyfastnn.mlp.default
_linear_relu_direct = _C.linear_relu
_mlp_direct = _C.mlp
_is_compiling = torch.compiler.is_compiling

CUDA_IS_BUILT = bool(_build_info.CUDA_ARCHS)
WITHOUT_CUDA = "is on a CUDA device, and pyfastnn was built without CUDA"  # why a module runs plain


def linear_relu(input: Tensor | CsrMatrix, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Fused linear layer and ReLU: ``relu(input @ weight.T + bias)``.

    Args:
        input: shape ``[*, K]``, any strides; float32, float64, bfloat16 or float16. Or sparse,
            ``[M, K]``: a CSR tensor, or a CSR matrix or array of SciPy.
        weight: shape ``[N, K]``, same dtype and device as ``input``.
        bias: shape ``[N]``, same dtype and device as ``input``, or None.

    Returns:
        Tensor of shape ``[*, N]``, dtype of ``input``. Zero where the sum is not positive; NaN
        stays NaN.

    Raises:
        RuntimeError: if shapes, dtypes or devices do not fit, or a sparse input is in another
            format than CSR; the message names the argument. For CUDA tensors, if pyfastnn was built
            without CUDA.

    Note:
        bfloat16 and float16 accumulate in float32 and round once. Under autocast the arguments are
        cast as for ``torch.nn.functional.linear``. The bits of a row do not depend on the other
        rows of the batch nor on the number of threads (on CUDA devices: where our kernels compute
        it, see ``docs/cuda.md``). Derivatives of any order, forward and
        reverse, are those of ``torch.relu(torch.nn.functional.linear(...))``; the gradient where
        the sum is exactly 0 is 0. All arguments may be DTensors, divided by rows, columns or
        features, evenly or not.

        A sparse input is never made dense: the layer reads the weights of the columns that are
        present, and costs what the entries cost. Entries of the same row and column add up. Absent
        entries are zeros that are not multiplied: an infinite weight does not reach the rows where
        its column is absent. The gradient of ``weight`` is dense. Autocast leaves such a layer in
        its dtype.

    Example:
        >>> y = linear_relu(torch.randn(32, 784), torch.randn(128, 784), torch.randn(128))
        >>> y.shape
        torch.Size([32, 128])
    """
    if not _is_compiling():  # Dynamo knows operators, not functions of C
        output = _linear_relu_direct(input, weight, bias)
        if output is not NotImplemented:
            return output
        if is_sparse(input):
            return sparse_mlp("linear_relu", input, [weight], [bias], True)
    elif is_of_scipy(input):
        return sparse_mlp("linear_relu", input, [weight], [bias], True)
    _meet_dtensor()
    return _linear_relu(input, weight, bias)  # type: ignore[no-any-return]


def mlp(
    input: Tensor | CsrMatrix,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activate_last: bool = False,
) -> Tensor:
    """Multi-layer perceptron as one operator: linear layers with a ReLU between them.

    ``h_0 = input``, ``h_l = relu(h_{l-1} @ weights[l-1].T + biases[l-1])``, result ``h_L``, where
    the last layer has its ReLU only if ``activate_last``.

    Args:
        input: shape ``[*, N_0]``, any strides; float32, float64, bfloat16 or float16. Or sparse,
            ``[M, N_0]``, as in :func:`linear_relu`.
        weights: L tensors, ``weights[l]`` of shape ``[N_{l+1}, N_l]``, dtype and device of
            ``input``.
        biases: L entries, ``biases[l]`` of shape ``[N_{l+1}]`` or None.
        activate_last: apply the ReLU to the last layer too.

    Returns:
        Tensor of shape ``[*, N_L]``, dtype of ``input``.

    Raises:
        RuntimeError: if shapes, dtypes or devices do not fit, the lists have different lengths, or
            a sparse input is in another format than CSR; the message names the argument. For CUDA
            tensors, if pyfastnn was built without CUDA.

    Note:
        One operator and one autograd node whatever the depth: for small networks that costs less
        than the arithmetic. Numerics per layer are those of :func:`linear_relu`; a hidden layer is
        rounded to the dtype of ``input``. DTensors with divided weights run layer by layer.

    Example:
        >>> sizes = [784, 128, 10]
        >>> weights = [torch.randn(n, k) for k, n in zip(sizes, sizes[1:])]
        >>> mlp(torch.randn(32, 784), weights, [None, None]).shape
        torch.Size([32, 10])
    """
    if not _is_compiling():
        output = _mlp_direct(input, weights, biases, activate_last)
        if output is not NotImplemented:
            return output
        if is_sparse(input):
            return sparse_mlp("mlp", input, weights, biases, activate_last)
    elif is_of_scipy(input):
        return sparse_mlp("mlp", input, weights, biases, activate_last)
    _meet_dtensor()
    return _mlp(input, weights, biases, activate_last)  # type: ignore[no-any-return]


def _meet_dtensor() -> None:
    """Tell DTensor how it runs the operators, once somebody has imported it.

    It takes 20 times as long to import as pyfastnn, and nothing announces it.
    """
    if "torch.distributed.tensor" in sys.modules:
        from pyfastnn import _sharding as _sharding
