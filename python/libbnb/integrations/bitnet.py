# SPDX-License-Identifier: MIT
"""BitNet checkpoints of transformers: saved from our layers, and loaded models put onto our kernels.

transformers stores four ternary weights in a byte, those of rows r, r + N/4, r + N/2 and r + 3N/4 in column c in byte
(r, c), the first in the lowest bits, each plus one; and one scale for the whole weight.
"""

# What PyTorch's classes have for subclasses is private or without types; transformers has few types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.functional import quantize_ternary
from libbnb.nn.bit_linear import BitLinear
from libbnb.nn.bitnet_config import BitNetConfig

_ROWS_PER_BYTE = 4


def _pack_rows(ternary: torch.Tensor) -> torch.Tensor:
    """int8 -1 .. 1 of shape (N, K) -> uint8 of shape (N / 4, K)."""
    codes = (ternary + 1).to(torch.uint8).reshape(_ROWS_PER_BYTE, -1, ternary.shape[1])
    shifts = 2 * torch.arange(_ROWS_PER_BYTE, dtype=torch.uint8)
    return (codes << shifts[:, None, None]).sum(0, dtype=torch.uint8)


def _unpack_rows(packed: torch.Tensor) -> torch.Tensor:
    """The inverse."""
    shifts = 2 * torch.arange(_ROWS_PER_BYTE, dtype=torch.uint8)
    codes = (packed[None] >> shifts[:, None, None]) & 3
    return codes.reshape(-1, packed.shape[1]).to(torch.int8) - 1


def _check_serializable(name: str, layer: BitLinear, like: BitNetConfig) -> None:
    """What transformers' checkpoints can say."""
    config = layer.config
    for setting, value in (("group_size", None), ("activation_bits", 8), ("per_token", True)):
        if getattr(config, setting) != value:
            raise InvalidArgument(
                f"{name}: {setting} is {getattr(config, setting)}, but BitNet checkpoints of transformers are made for "
                f"{value}"
            )
    if (config.rms_norm, config.eps) != (like.rms_norm, like.eps):
        raise InvalidArgument(f"{name}: rms_norm and eps differ from those of other layers")
    if layer.out_features % _ROWS_PER_BYTE:
        raise InvalidArgument(f"{name}: {layer.out_features} rows are no multiple of {_ROWS_PER_BYTE}")


def _tensors_of(layer: BitLinear) -> dict[str, torch.Tensor]:
    _, scale = layer.codes_and_scale()
    trits = layer.dequantized_weight().sign().to(torch.int8)
    tensors = {"weight": _pack_rows(trits), "weight_scale": scale.reshape(1)}
    bias: Any = layer.bias
    if bias is not None:
        tensors["bias"] = bias.detach()
    if layer.config.rms_norm:
        tensors["rms_norm.weight"] = torch.ones(layer.in_features)
    return tensors


def save_pretrained(model: Any, folder: str | Path) -> None:
    """Saves a model of transformers whose linear layers are `BitLinear`, as transformers loads BitNet checkpoints.

    Parameters
    ----------
    model
        A `PreTrainedModel` with layers of `replace_with_bitlinear`, packed or not. It is not changed.
    folder
        Where `config.json` and `model.safetensors` go.

    Raises
    ------
    InvalidArgument
        The model has no `BitLinear`, or one whose settings such checkpoints cannot express: groups, fewer than 8 bits,
        one scale for all tokens.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, BitLinear)}
    if not layers:
        raise InvalidArgument(f"model: this {type(model).__name__} has no BitLinear")
    first = next(iter(layers.values())).config
    state: dict[str, torch.Tensor] = dict(model.state_dict())
    for name, layer in layers.items():
        _check_serializable(name, layer, first)
        for key in layer.state_dict():
            del state[f"{name}.{key}"]
        state |= {f"{name}.{key}": tensor for key, tensor in _tensors_of(layer).items()}
    _write(model, state, _quantization_config(model, set(layers), first), Path(folder))


def _quantization_config(model: Any, layers: set[str], config: BitNetConfig) -> dict[str, Any]:
    kept = [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and name not in layers
    ]
    return {
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "quantization_mode": "offline",
        "modules_to_not_convert": kept,
        "use_rms_norm": config.rms_norm,
        "rms_norm_eps": config.eps,
    }


def _write(model: Any, state: dict[str, torch.Tensor], quantization: dict[str, Any], folder: Path) -> None:
    import copy
    import json

    from safetensors.torch import save_file

    if getattr(model.config, "tie_word_embeddings", False):
        tied: Any = (
            getattr(model, "_tied_weights_keys", None) or ()
        )  # a list before transformers 5, a dict from then on
        state = {key: tensor for key, tensor in state.items() if key not in set(tied)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in state.items()}, str(folder / "model.safetensors"), {"format": "pt"})
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    document = config.to_dict() | {"quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(folder)


def convert_layers(model: torch.nn.Module) -> torch.nn.Module:
    """Puts a BitNet model that transformers has loaded onto our kernels: its layers become packed `BitLinear`.

    Parameters
    ----------
    model
        A model with transformers' `AutoBitLinear` (with weights that are quantized already) or `BitLinear` layers.

    Returns
    -------
    torch.nn.Module
        The model.

    Raises
    ------
    InvalidArgument
        The model has no such layer, or one that is still to be quantized, or whose normalisation has a gain.
    """
    from transformers.integrations import bitnet

    found = 0
    for name, module in list(model.named_modules()):
        if isinstance(module, (bitnet.AutoBitLinear, bitnet.BitLinear)):
            model.set_submodule(name, _converted(name, module, isinstance(module, bitnet.AutoBitLinear)))
            found += 1
    if not found:
        raise InvalidArgument(f"model: this {type(model).__name__} has none of transformers' BitNet layers")
    return model


@torch.no_grad()
def _converted(name: str, module: Any, auto: bool) -> BitLinear:
    if getattr(module, "online_quant", False):
        raise InvalidArgument(f"{name} quantizes its weights as it goes: replace_with_bitlinear is for such models")
    norm = module.rms_norm
    if norm is not None and not bool((norm.weight == 1).all()):
        raise InvalidArgument(f"{name}: its normalisation has a gain, which a BitLinear has not")
    config = BitNetConfig(rms_norm=norm is not None, eps=1e-5 if norm is None else norm.variance_epsilon)
    made = BitLinear(module.in_features, module.out_features, False, config, device="meta")
    ternary = module.weight.to(torch.int8) if auto else _unpack_rows(module.weight)
    scale = module.weight_scale.float().reshape(1)
    codes, _ = quantize_ternary(ternary.float(), scale_rule="absmax")  # the weights themselves, in our order
    made.become_packed(codes, scale if auto else 1 / scale)
    if module.bias is not None:
        made.bias = torch.nn.Parameter(module.bias.detach(), requires_grad=False)
    return made.train(module.training)
