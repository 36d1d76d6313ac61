# SPDX-License-Identifier: MIT
"""The base classes of all optimizers: states, checkpoints, and a step that is one call of the C library for a group."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from libbnb import _lists
from libbnb._errors import InvalidArgument, Unsupported
from libbnb.codebooks import create_dynamic_map
from libbnb.functional import gradient_norm
from libbnb.optim import _checkpoint, _sharded, _states, _trust
from libbnb.optim._batch import BLOCKSIZE, TWO_STATES, Batch, averages_of, blocks, blocksize_of, check_parameter
from libbnb.optim._hyperparameters import arguments, check_hyperparameters, check_name
from libbnb.optim._plan import Plan
from libbnb.optim._schedules import scheduled_alpha, scheduled_beta3
from libbnb.optim.manager import GlobalOptimManager

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    class Options(TypedDict, total=False):
        """What every optimizer takes by keyword, beyond the arguments of bitsandbytes' class."""

        nonfinite: str
        max_grad_norm: float
        paged_directory: str | None


_PAGED_BYTES_PER_CALL = 256 << 20  # while one call works on its states, those of the next are fetched
_NEVER_NEGATIVE = ("rmsprop", "adagrad")  # whose state1 is never negative


class Optimizer8bit(torch.optim.Optimizer):
    """Base of all optimizers.

    Parameters
    ----------
    params
        Parameters or parameter groups: float32, float16 or bfloat16. Those that DTensors spread over processes (FSDP2)
        are updated shard by shard.
    defaults
        Hyperparameters of groups that do not bring their own.
    optim_bits
        32 or 8: bits of each element of a state.
    is_paged
        Whether the states of parameters of 100,000 elements or more are pages that the system moves. On a GPU that is
        managed memory. On a CPU it is a temporary file that is mapped into memory, fetched ahead of the step, so that
        states may be larger than RAM: in `paged_directory`, which should be on a disk that is fast and no RAM disk.
    **options
        ``nonfinite``: what happens where a gradient is NaN or infinite: "propagate" (the default), "skip_element" (it
        keeps state and value) or "skip_step" (all do, as torch.amp.GradScaler would have it). ``found_nonfinite`` tells
        after each step. ``max_grad_norm``: above 0, gradients are scaled down to this norm, over all parameters of the
        optimizer, as torch.nn.utils.clip_grad_norm_ does it but without writing them; ``grad_norm`` is what it was.
        ``paged_directory``: see above; if None, the environment variable BNB_PAGED_DIRECTORY, else the directory for
        temporary files.

    Raises
    ------
    InvalidArgument
        An option is unknown or has a wrong value.
    """

    _FSDP_WRAPPED_QUANT_STATE_KEY = _checkpoint.WRAPPED
    _step_supports_amp_scaling = True  # GradScaler hands over `grad_scale` and `found_inf`
    _PICKLED: ClassVar[tuple[str, ...]] = (
        "args", "optimizer_name", "is_paged", "nonfinite", "max_grad_norm", "paged_directory"
    )  # fmt: skip

    args: Any
    optimizer_name: str

    def __init__(
        self,
        params: Any,
        defaults: dict[str, Any],
        optim_bits: int = 32,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        unknown = options.keys() - {"nonfinite", "max_grad_norm", "paged_directory"}
        if unknown:
            raise TypeError(f"{type(self).__name__} got unexpected arguments {sorted(unknown)}")
        self.nonfinite = options.get("nonfinite", "propagate")
        self.max_grad_norm = float(options.get("max_grad_norm", 0.0))
        self.paged_directory = options.get("paged_directory")
        _lists.nonfinite_number(self.nonfinite)
        if not (math.isfinite(self.max_grad_norm) and self.max_grad_norm >= 0.0):
            raise InvalidArgument(f"max_grad_norm is {self.max_grad_norm}, must be finite and at least 0")
        if optim_bits not in (8, 32):
            raise Unsupported(f"optim_bits is {optim_bits}, must be 8 or 32")
        self.is_paged = is_paged
        self._prepare()
        super().__init__(params, defaults)

    def _prepare(self) -> None:
        """What is never saved."""
        self.initialized = False
        self.mng = GlobalOptimManager.get_instance()
        self.non_castable_tensor_keys = set(_checkpoint.QUANT_KEYS)
        self.name2qmap: dict[tuple[bool, torch.device], torch.Tensor] = {}
        self._scaler_found = False
        self.grad_norm: float | None = None
        self._plans: dict[int, Plan] = {}
        self._found: dict[torch.device, torch.Tensor] = {}

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {name: getattr(self, name) for name in self._PICKLED if hasattr(self, name)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare()

    def state_dict(self) -> dict[str, Any]:
        """States and hyperparameters, as bitsandbytes' optimizer of the same name saves and loads them."""
        saved = super().state_dict()
        saved["state"] = {key: _checkpoint.wrapped(state) for key, state in saved["state"].items()}
        return saved

    def load_state_dict(self, state_dict: dict[str, Any], move_to_device: bool = True) -> None:
        """Loads what `state_dict` of this class, or of bitsandbytes' class of the same name, returned.

        Parameters
        ----------
        state_dict
            It is not changed, and its tensors are copied.
        move_to_device
            Whether states go to the devices of their parameters.

        Raises
        ------
        InvalidArgument
            Parameter groups differ in number or size; or an 8-bit state was saved by another number of processes, and
            blocks would be cut.
        """
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        saved = state_dict["param_groups"]
        _checkpoint.check_groups(self.param_groups, saved)
        averages = averages_of(self.optimizer_name)
        loader = _checkpoint.Loader(self.is_paged, self.paged_directory, move_to_device, averages)
        states = loader.states(self.param_groups, saved, state_dict["state"])
        self.__setstate__({"state": states, "param_groups": _checkpoint.merged_groups(self.param_groups, saved)})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    # -- hyperparameters and states --------------------------------------------------------------------------------

    def check_overrides(self) -> None:
        """Applies the overrides of modules' parameters that GlobalOptimManager knows."""
        mine = {id(p) for group in self.param_groups for p in group["params"]}
        for module, name, config in self.mng.module_weight_config_triple:
            p = getattr(module, name)
            if id(p) in mine:
                self.mng.pid2config[id(p)] = config

    def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
        """The hyperparameters of a parameter: its group's, the optimizer's arguments, and its overrides."""
        config = {key: group.get(key) for key in ("betas", "eps", "weight_decay", "lr", "t_alpha", "t_beta3")}
        config["alpha"] = group.get("alpha", 0.0)
        for key in ("optim_bits", "min_8bit_size", "max_unorm", "skip_zeros"):
            config[key] = getattr(self.args, key)
        return config | self.mng.override_of(gindex, pindex, group["params"][pindex])

    def init_state(self, group: dict[str, Any], p: Any, gindex: int, pindex: int) -> None:
        """Makes the states of a parameter: zeros."""
        config = self.get_config(gindex, pindex, group)
        if config["optim_bits"] not in (8, 32):
            raise Unsupported(f"optim_bits is {config['optim_bits']}, must be 8 or 32")
        small = p.numel() < config["min_8bit_size"]  # of all shards: the choice is the same in every process
        dtype = torch.float32 if config["optim_bits"] == 32 or small else torch.uint8
        state = self.state[p]
        averages = averages_of(self.optimizer_name)
        self._add_state(state, "1", p, averages, dtype, signed=self.optimizer_name not in _NEVER_NEGATIVE)
        if self.optimizer_name in TWO_STATES:
            self._add_state(state, "2", p, 1, dtype, signed=False)
        if config["max_unorm"] > 0.0:
            state["unorm_vec"] = torch.zeros((1,), device=p.device)
        state["step"] = 0

    def _add_state(
        self, state: dict[str, Any], i: str, p: torch.Tensor, averages: int, dtype: torch.dtype, signed: bool
    ) -> None:
        state["state" + i] = _states.zeros(p, averages, dtype, self.is_paged, self.paged_directory)
        if dtype == torch.float32:
            return
        state["qmap" + i] = self._qmap(signed, p.device)
        if _sharded.is_sharded(p):
            state["absmax" + i] = _sharded.scales(p, averages, BLOCKSIZE)
            return
        nb = blocks(p.numel())
        state["absmax" + i] = torch.zeros((nb,) if averages == 1 else (averages, nb), device=p.device)

    def _qmap(self, signed: bool, device: torch.device) -> torch.Tensor:
        qmap = self.name2qmap.get((signed, device))
        if qmap is None:
            qmap = self.name2qmap[signed, device] = torch.tensor(create_dynamic_map(signed), device=device)
        return qmap

    # -- step ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of every parameter that has a gradient.

        Parameters
        ----------
        closure
            Computes the loss anew, and gradients.

        Returns
        -------
        object
            What the closure returned, None without one.

        Raises
        ------
        InvalidArgument
            A hyperparameter is out of range, or a gradient or state does not fit its parameter. Parameters are what
            they were.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self.initialized:
            self.check_overrides()
            self.initialized = True
        batches: list[Batch] = []
        for gindex, group in enumerate(self.param_groups):
            batches += self._batches(gindex, group)
        self.grad_norm = None
        scaler_found: torch.Tensor | None = getattr(self, "found_inf", None)
        self._scaler_found = scaler_found is not None and bool(scaler_found.item())
        if batches and not self._scaler_found:
            self._run(batches)
        for batch in batches:
            batch.release()
        return loss

    @property
    def found_nonfinite(self) -> bool:
        """Whether a gradient of the last step was NaN or infinite."""
        return self._scaler_found or any(bool(tensor.item()) for tensor in self._found.values())

    def _batches(self, gindex: int, group: dict[str, Any]) -> list[Batch]:
        params = group["params"]
        grads = [p.grad for p in params]
        plan = self._plans.get(gindex)
        if plan is None or not plan.refresh(params, grads, self.mng.version, self.state.get):
            plan = self._plans[gindex] = self._plan(gindex, group, grads)
        return plan.batches

    def _plan(self, gindex: int, group: dict[str, Any], grads: list[Any]) -> Plan:
        members: dict[tuple[Any, ...], list[int]] = {}
        params = group["params"]
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            if g is None:
                continue
            name = f"parameter {i} of group {gindex}"
            check_parameter(p, g, name)
            if len(self.state[p]) == 0:
                self.init_state(group, p, gindex, i)
            members.setdefault(self._batch_key(gindex, i, group, p, name), []).append(i)
        batches: list[Batch] = []
        for key, indices in members.items():
            for part in self._parts(params, indices):
                places = [(gindex, i) for i in part]
                states = [self.state[params[i]] for i in part]
                mine = [params[i] for i in part]
                batches.append(Batch(self.optimizer_name, places, mine, [grads[i] for i in part], states, key[0]))
        return Plan(list(params), [g is None for g in grads], self.mng.version, batches)

    def _batch_key(self, gindex: int, i: int, group: dict[str, Any], p: Any, name: str) -> tuple[Any, ...]:
        """Parameters with the same key can share a call. Its first member is the block size."""
        state = self.state[p]
        for key, value in state.items():  # as a model moved to a GPU after its optimizer was made
            if isinstance(value, torch.Tensor) and value.device != p.device and not _states.is_paged(value):
                state[key] = value.to(p.device)
        config = self.get_config(gindex, i, group)
        if config["max_unorm"] > 0.0 and "unorm_vec" not in state:
            state["unorm_vec"] = torch.zeros((1,), device=p.device)
        blocksize = blocksize_of(self.optimizer_name, p, state, name)
        override = self.mng.override_of(gindex, i, p)
        # Schedules depend on the step, which most parameters share.
        step = state["step"] if config["t_alpha"] is not None or config["t_beta3"] is not None else None
        sharded = _sharded.is_sharded(p)
        alone = i if sharded and config["max_unorm"] > 0.0 else None
        return blocksize, p.device, repr(sorted(override.items())), "unorm_vec" in state, step, sharded, alone

    def _parts(self, params: list[Any], indices: list[int]) -> Iterable[list[int]]:
        """Paged states are worked on piece by piece, so that the next ones can be fetched meanwhile."""
        part: list[int] = []
        size = 0
        for i in indices:
            state = self.state[params[i]]
            pages = sum(state[k].nbytes for k in ("state1", "state2") if k in state and _states.is_paged(state[k]))
            if part and size + pages > _PAGED_BYTES_PER_CALL:
                yield part
                part, size = [], 0
            part.append(i)
            size += pages
        yield part

    def _run(self, batches: list[Batch]) -> None:
        found = self._found_tensors(batches)
        skip = self.nonfinite == "skip_step"
        # One call looks for itself before it writes; if others come after it, somebody must look at all gradients
        # first.
        look_first = skip and (len(batches) > 1 or batches[0].sharded)
        if look_first or self.max_grad_norm > 0.0:
            self._measure(batches, found)
        if look_first and self.found_nonfinite:
            return
        mode = "propagate" if look_first else self.nonfinite
        configs = [self._config(batch, mode, found) for batch in batches]
        for batch, config in zip(batches, configs, strict=True):  # all are looked at before anything is written
            _lists.update(config, None, batch.blocksize, batch.stream())
        batches[0].prefetch()
        for i, (batch, config) in enumerate(zip(batches, configs, strict=True)):
            if i + 1 < len(batches):
                batches[i + 1].prefetch()
            _trust.run(batch, config)
            if not (skip and self.found_nonfinite):
                batch.count_step()

    def _found_tensors(self, batches: list[Batch]) -> dict[torch.device, torch.Tensor]:
        for batch in batches:
            device = batch.params[0].device
            if device not in self._found:
                self._found[device] = torch.zeros(1, device=device)
        for tensor in self._found.values():
            tensor.zero_()
        return self._found

    def _measure(self, batches: list[Batch], found: dict[torch.device, torch.Tensor]) -> None:
        """Norm of all gradients, and whether one is NaN or infinite, in one read of them."""
        squares = 0.0
        for device, tensor in found.items():
            mine = [batch for batch in batches if batch.params[0].device == device]
            grads = [g for batch in mine for g in batch.gradients()]
            if not grads:
                continue
            if any(batch.sharded for batch in mine) and self.max_grad_norm > 0.0:
                raise Unsupported("max_grad_norm: parameters are DTensors: use torch.nn.utils.clip_grad_norm_")
            squares += float(gradient_norm(grads, found_inf=tensor)) ** 2
            for batch in mine:
                if batch.sharded:
                    _sharded.share_found(batch.params[0], tensor)
        scale = getattr(self, "grad_scale", None)
        self.grad_norm = math.sqrt(squares) / (1.0 if scale is None else float(scale))

    def _gnorm_scale(self) -> float:
        """What gradients are multiplied by: GradScaler's scale is taken back, and they are clipped."""
        scale = getattr(self, "grad_scale", None)
        factor = 1.0 if scale is None else 1.0 / float(scale)
        if self.max_grad_norm > 0.0 and self.grad_norm is not None and math.isfinite(self.grad_norm):
            factor *= min(1.0, self.max_grad_norm / (self.grad_norm + 1e-6))
        return factor

    def _config(self, batch: Batch, mode: str, found: dict[torch.device, torch.Tensor]) -> _lists.OptimizerConfig:
        gindex, pindex = batch.places[0]
        values = self.get_config(gindex, pindex, self.param_groups[gindex])
        betas = [float(b) for b in values["betas"]] + [0.0, 0.0]
        numbers = {
            "lr": values["lr"], "beta1": betas[0], "beta2": betas[1], "beta3": betas[2],
            "alpha": values["alpha"] or 0.0, "eps": values["eps"], "weight_decay": values["weight_decay"],
            "gnorm_scale": self._gnorm_scale(), "max_unorm": values["max_unorm"],
        }  # fmt: skip
        if self.optimizer_name == "ademamix":
            step = batch.steps()[0]
            numbers["alpha"] = scheduled_alpha(numbers["alpha"], step, values["t_alpha"])
            numbers["beta3"] = scheduled_beta3(betas[0], betas[2], step, values["t_beta3"])
        tensor = found[batch.params[0].device]
        number = _lists.optimizer_number(self.optimizer_name)
        view = batch.kind.write(tensor, "found_inf")
        return _lists.OptimizerConfig(
            number, numbers, bool(values["skip_zeros"]), _lists.nonfinite_number(mode), None, view
        )


class Optimizer2State(Optimizer8bit):
    """Base of the optimizers that keep averages of gradients and of their squares.

    Parameters
    ----------
    optimizer_name
        "adam", "lamb" or "ademamix".
    params, optim_bits, is_paged, **options
        See `Optimizer8bit`.
    lr, betas, eps, weight_decay
        Hyperparameters; `betas` may be a string such as "(0.9, 0.999)".
    args
        An object with the attributes optim_bits, min_8bit_size, max_unorm and skip_zeros, which replace the arguments.
    min_8bit_size
        Parameters of fewer elements have states in fp32.
    max_unorm
        Above 0: updates are scaled down to a norm of max_unorm times the norm of their parameter.
    skip_zeros
        Whether elements with a gradient of 0 keep states and value.
    alpha, t_alpha, t_beta3
        AdEMAMix: weight of the slow average, and steps over which it and beta3 rise to their values.

    Raises
    ------
    InvalidArgument
        A hyperparameter is out of range.
    """

    def __init__(
        self,
        optimizer_name: str,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        max_unorm: float = 0.0,
        skip_zeros: bool = False,
        is_paged: bool = False,
        alpha: float = 0.0,
        t_alpha: int | None = None,
        t_beta3: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_name(optimizer_name, True)
        if isinstance(betas, str):
            betas = [float(beta) for beta in betas.strip(" ()").split(",")]
        if optimizer_name == "ademamix" and len(betas) != 3:
            raise InvalidArgument(f"betas is {betas}, must be three numbers for ademamix")
        check_hyperparameters(lr, betas, eps, weight_decay)
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "alpha": alpha, "t_alpha": t_alpha,
            "t_beta3": t_beta3,
        }  # fmt: skip
        self.optimizer_name = optimizer_name
        self.args = arguments(
            args, optim_bits=optim_bits, min_8bit_size=min_8bit_size, max_unorm=max_unorm, skip_zeros=skip_zeros
        )
        super().__init__(params, defaults, optim_bits, is_paged, **options)


class Optimizer1State(Optimizer8bit):
    """Base of the optimizers that keep one average.

    The parameters are those of `Optimizer2State`. `optimizer_name` is "lion", "momentum", "lars", "rmsprop" or
    "adagrad".

    Raises
    ------
    InvalidArgument
        A hyperparameter is out of range.
    """

    def __init__(
        self,
        optimizer_name: str,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.0),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        max_unorm: float = 0.0,
        skip_zeros: bool = False,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        check_name(optimizer_name, False)
        check_hyperparameters(lr, betas, eps, weight_decay)
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        self.optimizer_name = optimizer_name
        self.args = arguments(
            args, optim_bits=optim_bits, min_8bit_size=min_8bit_size, max_unorm=max_unorm, skip_zeros=skip_zeros
        )
        super().__init__(params, defaults, optim_bits, is_paged, **options)
