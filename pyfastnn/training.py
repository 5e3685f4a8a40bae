"""The whole training step in one call, for the user's own model, loss and optimizer."""

from __future__ import annotations

import copy
from typing import Any, Literal, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pyfastnn import _C
from pyfastnn._optimizers import OptimizerReader, Place
from pyfastnn._processes import Job, Processes
from pyfastnn._sparse import CsrMatrix, is_sparse, train_input
from pyfastnn._step_parts import (
    bind,
    checked_batch_size,
    checked_norm,
    computes_in_bfloat16,
    describe_loss,
    hooks_of,
    is_lazy,
)
from pyfastnn._torch_plan import Plan, TorchPlan, runs_on_torch
from pyfastnn._watch import Watch

_NOWHERE = Place(-1, [], None, False)  # of a layer without bias


class TrainStep:
    """One step of training in one call, equal to the usual five lines of PyTorch.

    ``step(x, target)`` does what ``optimizer.zero_grad()``, ``loss = loss_fn(model(x), target)``,
    ``loss.backward()`` and ``optimizer.step()`` do, up to rounding, without the autograd engine:
    rows go tile by tile through the network, the loss and back, and gradients become updates while
    they are in the cache. Parameters stay those of the model, state stays in ``optimizer.state``:
    schedulers, ``state_dict``, checkpoints and ordinary steps in between work as usual. Attributes
    ``.grad`` are neither read nor written.

    Args:
        model: ``nn.Linear``, :class:`pyfastnn.LinearReLU`, or an ``nn.Sequential`` /
            :class:`pyfastnn.MLP` (also nested) of those and ``nn.ReLU`` behind a linear layer; an
            ``nn.Flatten`` may come first. Parameters float32 or float64, on the CPU or on a CUDA
            device.
        loss_fn: ``nn.CrossEntropyLoss`` with class indices (``label_smoothing``,
            ``ignore_index``), ``nn.MSELoss`` or ``nn.BCEWithLogitsLoss``, reduction ``"mean"`` or
            ``"sum"``. Its options are read when the object is made; changes of the model and of
            the optimizer are noticed at every step.
        optimizer: ``torch.optim.SGD``, ``Adam`` or ``AdamW`` over parameters of the model.
        compute_dtype: ``torch.bfloat16`` computes products in bfloat16 with sums in float32;
            parameters, gradients and state stay float32. None: the dtype of the parameters.
        max_grad_norm: limit for the norm of all gradients together, as
            ``torch.nn.utils.clip_grad_norm_``.
        process_group: gradients are summed over the processes of this group, so that a step equals
            one step of a single process on the rows of all of them. Parameters are taken from its
            first process when the object is made.
        sparse_update: what sparse rows do to the columns of the first weight that none of a
            batch's rows has. ``"exact"``: what a gradient of zero does, so that training equals
            that on dense rows; with momentum, weight decay or Adam every column changes at every
            step. ``"lazy"``: nothing, neither to the weight nor to its state, as in
            ``torch.optim.SparseAdam``; the other columns are updated by the optimizer's formula,
            whose step counts all steps.

    Raises:
        TypeError, ValueError: for a model, loss, optimizer or option that is not supported; the
            message names the part and the reason. Nothing has been changed then.

    Note:
        Two runs give the same bits, whatever the number of threads. Memory beyond parameters and
        state does not grow with the batch.

        On a CUDA device a step has the same result, but is no kernel of its own: it calls the model
        (fused where pyfastnn was built with CUDA), the loss, backward and the optimizer as
        PyTorch does, and activations of the whole batch are kept. Nothing waits for the device
        (with a process group a step does), so class indices are not checked by us: PyTorch's loss
        fails on the device.

    Example:
        >>> model = pyfastnn.MLP([784, 128, 64, 10])
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> step = TrainStep(model, torch.nn.CrossEntropyLoss(), optimizer)
        >>> loss = step(torch.randn(64, 784), torch.randint(10, (64,)))
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        compute_dtype: torch.dtype | None = None,
        max_grad_norm: float | None = None,
        process_group: dist.ProcessGroup | None = None,
        sparse_update: Literal["exact", "lazy"] = "exact",
    ) -> None:
        self._model = model
        self._loss = describe_loss(loss_fn)
        self._loss_fn = copy.deepcopy(loss_fn)  # later changes of its options do not count
        self._max_grad_norm = checked_norm(max_grad_norm)
        self._torch_optimizer = optimizer
        self._lazy = is_lazy(sparse_update)
        self._optimizer = OptimizerReader(optimizer)
        self._bound = bind(self._model)
        self._bfloat16 = computes_in_bfloat16(compute_dtype, self._weight.dtype)
        self._processes = None if process_group is None else Processes(process_group)
        self._plan = self._make_plan()
        self._is_current = True
        if self._processes is not None:
            self._processes.share(self._bound.tensors)

    def __call__(self, x: Tensor | CsrMatrix, target: Tensor) -> Tensor:
        """Train on one batch.

        Args:
            x: ``[M, in_features]`` (any shape ``[M, ...]`` with a leading ``nn.Flatten``), dtype of
                the parameters; with ``compute_dtype=torch.bfloat16`` also bfloat16. Or sparse: a
                CSR tensor, or a CSR matrix or array of SciPy; without ``compute_dtype`` and
                ``process_group``. It is not made dense.
            target: int64 ``[M]`` for cross entropy, else ``[M, out_features]`` of the parameters'
                dtype.

        Returns:
            The loss before the update, a detached scalar of the parameters' dtype. NaN and
            infinity are returned as they are.

        Raises:
            RuntimeError: if shapes, dtypes, devices or class indices do not fit. Nothing has been
                changed then.
        """
        self._refresh()
        rows = self._as_rows("x", x)
        if self._processes is None:
            loss = self._plan.step(rows, target, self._max_grad_norm)
        else:
            loss = self._processes.step(self._job(), rows, target)
        self._stepped()
        return loss

    def run_epoch(
        self,
        X: Tensor | CsrMatrix,
        target: Tensor,
        batch_size: int,
        *,
        shuffle: bool = True,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
        scale: float = 1.0,
        shift: float = 0.0,
    ) -> float:
        """Train on all rows of a data set once, without a copy of it and without Python per batch.

        The order of the rows is ``torch.randperm(len(X), generator=generator)``. With a process
        group every process is given the whole data set; ``batch_size`` counts the rows of all of
        them, and the order of the first process holds for all.

        Args:
            X: ``[N, in_features]`` (``[N, ...]`` with a leading ``nn.Flatten``); dtype of the
                parameters, or uint8. Or sparse, as for a call, with ``scale`` 1 and ``shift`` 0.
            target: as for a call, N rows.
            batch_size: rows of a batch; the last one may have fewer.
            shuffle: draw a new order; otherwise the rows are taken as they lie.
            generator: source of the order; None: PyTorch's own.
            drop_last: leave out a last batch with fewer rows.
            scale: X is multiplied by it on the way into the network,
            shift: then this is added.

        Returns:
            The mean loss of a row, each before the update of its batch.

        Raises:
            ValueError, RuntimeError: as for a call; everything is checked before the first update.
        """
        batch_size = checked_batch_size(batch_size)
        self._refresh()
        x = self._as_rows("X", X)
        self._plan.check(x, target, True)
        if X.dtype == torch.bfloat16 and (scale, shift) != (1.0, 0.0):
            raise ValueError(
                "TrainStep.run_epoch: expected X of the parameters' dtype or uint8 to be scaled, "
                "got bfloat16"
            )
        rows = X.shape[0]
        if rows == 0 or (drop_last and rows < batch_size):
            raise ValueError(
                f"TrainStep.run_epoch: expected X to hold at least "
                f"{batch_size if drop_last else 1} rows, got {rows}"
            )
        order = torch.randperm(rows, generator=generator, device="cpu") if shuffle else None
        if self._processes is None:
            loss = self._plan.run_epoch(
                x, target, order, batch_size, drop_last, scale, shift, self._max_grad_norm
            )
        else:
            loss = self._processes.epoch(
                self._job(), x, target, order, batch_size, drop_last, scale, shift
            )
        self._stepped()
        return loss

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "TrainStep cannot be copied or pickled: save the state_dict of model and optimizer"
        )

    # ---- the model, its optimizer, and what C++ knows of them ----

    def _make_plan(self) -> Plan:
        """Tell the plan which tensors there are, and watch whether there are others."""
        self._optimizer.start_over()
        plan = self._torch_plan() if runs_on_torch(self._weight) else self._engine_plan()
        self._set_numbers(plan)
        self._structure = self._optimizer.structure()
        tensors = [tensor for tensor in self._bound.tensors if tensor is not None]
        dicts = [*self._bound.dicts, *self._optimizer.dicts(), *hooks_of(tensors)]
        self._watch = Watch(dicts, self._optimizer.lists(), tensors)
        return plan

    def _engine_plan(self) -> _C.TrainPlan:
        """Make a plan in C++; missing optimizer state is made, but not yet published."""
        parameters = []
        with torch.inference_mode(False):  # state must be usable in ordinary steps
            for tensor in self._bound.tensors:
                place = _NOWHERE if tensor is None else self._optimizer.place(tensor)
                parameters.append(
                    _C.PlannedParameter(tensor, place.group, place.state, place.step, place.first)
                )
        plan = _C.TrainPlan(
            parameters,
            list(self._bound.relu),
            self._loss.kind,
            self._loss.mean,
            self._loss.label_smoothing,
            self._loss.ignore_index,
            self._optimizer.kind,
            self._bfloat16,
        )
        plan.set_lazy(self._lazy)
        return plan

    def _torch_plan(self) -> TorchPlan:
        tensors = self._bound.tensors
        for tensor in tensors:
            if tensor is not None:
                self._optimizer.updates(tensor)  # raises if it has a hook
        trained = [t for t in tensors if t is not None and t.requires_grad]
        return TorchPlan(
            self._model, self._loss_fn, self._torch_optimizer, tensors, trained, self._bfloat16
        )

    def _set_numbers(self, plan: Plan) -> None:
        plan.set_groups(self._optimizer.groups())
        self._numbers = self._optimizer.watch_numbers()

    def _refresh(self) -> None:
        """Notice what changed since the last step: parameters, what is frozen, state, numbers."""
        is_there = runs_on_torch(self._weight) == isinstance(self._plan, TorchPlan)
        if self._is_current and is_there and self._watch.holds():
            if self._numbers is not None and self._numbers.holds():
                return
            if self._structure == self._optimizer.structure():
                self._set_numbers(self._plan)
                return
        self._is_current = False  # until all of this has succeeded
        self._bound = bind(self._model)
        self._plan = self._make_plan()
        self._is_current = True

    def _stepped(self) -> None:
        # What is published now is watched from the next step on.
        if self._optimizer.stepped():
            self._is_current = False

    def _job(self) -> Job:
        weight = self._weight
        return Job(self._plan, self._loss, weight.dtype, weight.device, self._max_grad_norm)

    @property
    def _weight(self) -> Tensor:
        weight = self._bound.tensors[0]
        assert weight is not None
        return weight

    def _as_rows(self, name: str, x: Tensor | CsrMatrix) -> Any:
        """Return what the plan takes: a tensor, or sparse rows on the CPU."""
        if is_sparse(x):
            if isinstance(self._plan, TorchPlan):
                raise ValueError(f"TrainStep: a sparse {name} needs parameters on the CPU")
            if self._processes is not None:
                raise ValueError(
                    f"TrainStep: a sparse {name} with a process_group is not supported"
                )
            return train_input("TrainStep", name, x)
        if not isinstance(x, Tensor):
            raise TypeError(f"TrainStep: expected {name} to be a tensor, got {type(x).__name__}")
        return x.flatten(1) if self._bound.flatten and x.dim() > 2 else x
