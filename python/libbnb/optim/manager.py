# SPDX-License-Identifier: MIT
"""GlobalOptimManager: hyperparameters of single parameters that differ from those of their group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from libbnb._errors import InvalidArgument

Config = dict[str, Any]


class GlobalOptimManager:
    """Overrides of hyperparameters for single parameters, shared by all optimizers of the process.

    ``GlobalOptimManager.get_instance().override_config(model.head.weight, "optim_bits", 32)`` keeps the states of one
    parameter in fp32. Whether that comes before or after the optimizer is made does not matter, but the number of
    bits of a state is decided when it is made, at the parameter's first step.
    """

    _instance: GlobalOptimManager | None = None

    pid2config: dict[int, Config]
    index2config: dict[tuple[int, int], Config]
    module_weight_config_triple: list[tuple[torch.nn.Module, str, Config]]
    version: int

    def __init__(self) -> None:
        raise RuntimeError("GlobalOptimManager: call get_instance()")

    def initialize(self) -> None:
        """Forgets all overrides."""
        self.pid2config = {}
        self.index2config = {}
        self.module_weight_config_triple = []
        self.version = 0  # counts changes, so that optimizers know when to look again

    @classmethod
    def get_instance(cls) -> GlobalOptimManager:
        """The only instance."""
        if cls._instance is None:
            cls._instance = cls.__new__(cls)
            cls._instance.initialize()
        return cls._instance

    def register_parameters(self, params: Iterable[Any]) -> None:
        """Remembers the overrides of parameters by their places, so that they survive being replaced by others.

        Parameters
        ----------
        params
            Parameters or parameter groups, as they are given to an optimizer.
        """
        groups: list[Any] = list(params)
        if groups and not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group_index, group in enumerate(groups):
            for index, p in enumerate(group["params"]):
                if id(p) in self.pid2config:
                    self.index2config[group_index, index] = self.pid2config[id(p)]
        self.version += 1

    def override_config(
        self,
        parameters: torch.Tensor | Iterable[torch.Tensor],
        key: str | None = None,
        value: Any = None,
        key_value_dict: Config | None = None,
    ) -> None:
        """Overrides hyperparameters (`lr`, `betas`, ...) or `optim_bits`, `min_8bit_size`, ... of parameters.

        Parameters
        ----------
        parameters
            One parameter or several.
        key, value
            One override.
        key_value_dict
            Several of them.

        Raises
        ------
        InvalidArgument
            Both ways are used at once.
        """
        if key is not None and value is not None:
            if key_value_dict is not None:
                raise InvalidArgument("override_config: give key and value, or key_value_dict, not both")
            key_value_dict = {key: value}
        if key_value_dict is None:
            return
        for p in [parameters] if isinstance(parameters, torch.Tensor) else parameters:
            self.pid2config.setdefault(id(p), {}).update(key_value_dict)
        self.version += 1

    def register_module_override(self, module: torch.nn.Module, param_name: str, config: Config) -> None:
        """Overrides hyperparameters of the parameter that `module` has under that name when an optimizer first
        steps."""
        self.module_weight_config_triple.append((module, param_name, config))
        self.version += 1

    def override_of(self, group_index: int, index: int, p: torch.Tensor) -> Config:
        """All overrides of a parameter."""
        return self.index2config.get((group_index, index), {}) | self.pid2config.get(id(p), {})
