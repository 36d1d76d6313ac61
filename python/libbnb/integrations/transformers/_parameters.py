# SPDX-License-Identifier: MIT
"""Counting the parameters of a quantized model, which transformers does by bitsandbytes' classes."""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from libbnb.nn.params_4bit import Params4bit


class ParameterCount:
    """`model.num_parameters`, for models with libbnb's layers: transformers imports bitsandbytes to count 4-bit ones.

    Parameters
    ----------
    model
        A model of transformers.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """The number of weights, with two for each byte of 4-bit codes.

        Parameters
        ----------
        only_trainable
            Only those with `requires_grad`.
        exclude_embeddings
            Without those of `torch.nn.Embedding`.
        """
        left_out: set[int] = set()
        if exclude_embeddings:
            embeddings = (module for module in self._model.modules() if isinstance(module, torch.nn.Embedding))
            left_out = {id(module.weight) for module in embeddings}
        return sum(
            prod(parameter.logical_shape) if isinstance(parameter, Params4bit) else parameter.numel()
            for parameter in self._model.parameters()
            if id(parameter) not in left_out and (parameter.requires_grad or not only_trainable)
        )
