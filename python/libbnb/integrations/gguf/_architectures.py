# SPDX-License-Identifier: MIT
"""The architectures that are exported complete: one row each, with what llama.cpp computes for it.

A model whose config asks for something else is refused, because the file would load and talk nonsense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, MODEL_TENSOR, TENSOR_NAMES, get_tensor_name_map

from libbnb.integrations.gguf._config import Config
from libbnb.integrations.gguf._errors import GGUFError

_LINEAR = (
    MODEL_TENSOR.ATTN_Q, MODEL_TENSOR.ATTN_K, MODEL_TENSOR.ATTN_V, MODEL_TENSOR.ATTN_OUT,
    MODEL_TENSOR.FFN_GATE, MODEL_TENSOR.FFN_UP, MODEL_TENSOR.FFN_DOWN,
)  # fmt: skip
_NORMS = (MODEL_TENSOR.ATTN_NORM, MODEL_TENSOR.FFN_NORM)
_SUFFIXES = (".weight", ".bias")

# Buffers that old checkpoints carry along; everybody computes them.
_COMPUTED = (".rotary_emb.inv_freq", ".attention.masked_bias", ".attn.masked_bias")
EMBEDDING, OUTPUT_HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes
    ----------
    classes : tuple of str
        What "architectures" of config.json calls it.
    model_types : tuple of str
        What "model_type" calls it, for configs that name no class.
    arch : MODEL_ARCH
        The gguf package's name, which decides those of keys and tensors.
    activation : str
        "hidden_act" that llama.cpp computes.
    written_as : str
        "general.architecture" of the file.
    permutes : bool
        llama.cpp rotates neighbouring elements of a head, not element i and i + half: rows of q and k change places.
    ties : bool
        The token embedding is the output head, always.
    any_head_size : bool
        Whether heads may have another size than hidden_size / num_attention_heads.
    sub_norms : tuple of MODEL_TENSOR
        Further norms of each layer.
    names : dict
        Names of modules in a layer that the gguf package's map does not know.
    biases : tuple of MODEL_TENSOR
        What may have a bias.
    note : str
        What a user should know.
    """

    classes: tuple[str, ...]
    model_types: tuple[str, ...]
    arch: MODEL_ARCH
    activation: str = "silu"
    written_as: str = ""
    permutes: bool = False
    ties: bool = False
    any_head_size: bool = False
    sub_norms: tuple[MODEL_TENSOR, ...] = ()
    names: Mapping[str, MODEL_TENSOR] = field(default_factory=lambda: dict[str, MODEL_TENSOR]())
    biases: tuple[MODEL_TENSOR, ...] = ()
    note: str = ""

    @property
    def name(self) -> str:
        """`general.architecture`."""
        return self.written_as or MODEL_ARCH_NAMES[self.arch]


_QKV = (MODEL_TENSOR.ATTN_Q, MODEL_TENSOR.ATTN_K, MODEL_TENSOR.ATTN_V)
_BITNET_NAMES = {
    "self_attn.attn_sub_norm": MODEL_TENSOR.ATTN_SUB_NORM,
    "self_attn.inner_attn_ln": MODEL_TENSOR.ATTN_SUB_NORM,
    "mlp.ffn_sub_norm": MODEL_TENSOR.FFN_SUB_NORM,
    "mlp.ffn_layernorm": MODEL_TENSOR.FFN_SUB_NORM,
}
_BITNET_NORMS = (MODEL_TENSOR.ATTN_SUB_NORM, MODEL_TENSOR.FFN_SUB_NORM)
_BITNET_CLASSES = ("BitNetForCausalLM", "BitnetForCausalLM")

_ROWS = (
    Architecture(
        ("LlamaForCausalLM", "MistralForCausalLM"), ("llama", "mistral"), MODEL_ARCH.LLAMA,
        permutes=True, any_head_size=True, biases=_LINEAR,
    ),
    Architecture(("Qwen2ForCausalLM",), ("qwen2",), MODEL_ARCH.QWEN2, biases=_QKV),
    Architecture(
        _BITNET_CLASSES, ("bitnet",), MODEL_ARCH.BITNET, ties=True, sub_norms=_BITNET_NORMS, names=_BITNET_NAMES
    ),
    Architecture(
        _BITNET_CLASSES, ("bitnet",), MODEL_ARCH.BITNET, "relu2", "bitnet-b1.58", ties=True, sub_norms=_BITNET_NORMS,
        names=_BITNET_NAMES,
        note="hidden_act is relu2, which llama.cpp's own bitnet does not compute: the file says bitnet-b1.58, the name "
        "under which bitnet.cpp and ik_llama.cpp do",
    ),
)  # fmt: skip


def find_architecture(config: Config) -> Architecture | None:
    """The row for a model; None if there is none.

    Raises
    ------
    GGUFError
        The architecture is known, but not with this activation.
    """
    rows = [row for row in _ROWS if config.class_name in row.classes]
    if not rows and not config.class_name:
        rows = [row for row in _ROWS if config.get("model_type") in row.model_types]
    activation = config.get("hidden_act", rows[-1].activation if rows else None)
    for row in rows:
        if activation == row.activation:
            return row
    if rows:
        computed = " or ".join(repr(row.activation) for row in rows)
        raise unsupported(f"hidden_act is {activation!r}, llama.cpp computes {computed}")
    return None


def unsupported(what: str) -> GGUFError:
    """The error about a model that llama.cpp would run wrongly, with the way out."""
    return GGUFError(f"{what}; --generic exports the tensors alone")


def refuse_unsupported(row: Architecture, config: Config) -> None:
    """Raise if llama.cpp computes something else than the config says."""
    if not row.any_head_size and config.head_size * config.heads != config.hidden_size:
        raise unsupported(f"head_dim is {config.head_size}, {row.name} needs hidden_size / num_attention_heads")
    if config.get("partial_rotary_factor", 1.0) != 1.0:
        raise unsupported(f"partial_rotary_factor is {config.get('partial_rotary_factor')}")
    if config.head_size % 2:
        raise unsupported(f"head_dim is {config.head_size}, which is odd")


def map_tensors(row: Architecture, config: Config, names: list[str], is_tied: bool) -> dict[str, str]:
    """From names in the checkpoint to names in the file; what is not in it is left out on purpose.

    Raises
    ------
    GGUFError
        A tensor has no place in the architecture, or one that it needs is missing.
    """
    found = get_tensor_name_map(row.arch, config.layers)
    own = _own_names(row, config.layers)
    mapped: dict[str, str] = {}
    for name in names:
        if name.endswith(_COMPUTED) or (name == OUTPUT_HEAD and is_tied):
            continue
        module, suffix = next(((name.removesuffix(one), one) for one in _SUFFIXES if name.endswith(one)), (name, ""))
        target = own.get(module) or found.get_name(module)
        if target is None or not suffix:
            raise unsupported(f"{name}: {row.name} has no such tensor")
        mapped[name] = target + suffix
    _refuse_missing(row, config, set(mapped.values()), is_tied)
    _refuse_biases(row, config, mapped)
    return mapped


def _own_names(row: Architecture, layers: int) -> dict[str, str]:
    return {
        f"model.layers.{layer}.{module}": TENSOR_NAMES[tensor].format(bid=layer)
        for layer in range(layers)
        for module, tensor in row.names.items()
    }


def _refuse_missing(row: Architecture, config: Config, targets: set[str], is_tied: bool) -> None:
    needed = [TENSOR_NAMES[MODEL_TENSOR.TOKEN_EMBD], TENSOR_NAMES[MODEL_TENSOR.OUTPUT_NORM]]
    if not is_tied:
        needed.append(TENSOR_NAMES[MODEL_TENSOR.OUTPUT])
    for layer in range(config.layers):
        needed += [TENSOR_NAMES[tensor].format(bid=layer) for tensor in (*_LINEAR, *_NORMS, *row.sub_norms)]
    missing = [name + ".weight" for name in needed if name + ".weight" not in targets]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise unsupported(f"the checkpoint has no {missing[0]} (llama.cpp's name){more}, which {row.name} needs")


def _refuse_biases(row: Architecture, config: Config, mapped: dict[str, str]) -> None:
    allowed = {TENSOR_NAMES[one].format(bid=layer) + ".bias" for layer in range(config.layers) for one in row.biases}
    for name, target in mapped.items():
        if target.endswith(".bias") and target not in allowed:
            raise unsupported(f"{name}: {row.name} computes without this bias")


def refuse_shapes(mapped: dict[str, str], shapes: dict[str, tuple[int, ...]], config: Config) -> None:
    """Raise if a tensor has not the shape that follows from the config: llama.cpp would refuse the file.

    Parameters
    ----------
    mapped : dict
        Names in the checkpoint and in the file.
    shapes : dict
        Shapes by names in the checkpoint.
    config : Config
        The config.
    """
    wanted = _shapes(config, shapes[EMBEDDING][0])
    for name, target in mapped.items():
        module, _, suffix = target.rpartition(".")
        shape = wanted[module.rpartition(".")[2]]
        shape = shape[:1] if suffix == "bias" else shape
        if shapes[name] != shape:
            raise unsupported(f"{name} has shape {_text(shapes[name])}, must be {_text(shape)} by config.json")


def _shapes(config: Config, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of weights by the last part of their module's name in the file."""
    hidden, inner = config.hidden_size, config.count("intermediate_size")
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    return {
        _last(MODEL_TENSOR.ATTN_Q): (queries, hidden),
        _last(MODEL_TENSOR.ATTN_K): (keys, hidden),
        _last(MODEL_TENSOR.ATTN_V): (keys, hidden),
        _last(MODEL_TENSOR.ATTN_OUT): (hidden, queries),
        _last(MODEL_TENSOR.FFN_GATE): (inner, hidden),
        _last(MODEL_TENSOR.FFN_UP): (inner, hidden),
        _last(MODEL_TENSOR.FFN_DOWN): (hidden, inner),
        _last(MODEL_TENSOR.ATTN_NORM): (hidden,),
        _last(MODEL_TENSOR.FFN_NORM): (hidden,),
        _last(MODEL_TENSOR.ATTN_SUB_NORM): (hidden,),
        _last(MODEL_TENSOR.FFN_SUB_NORM): (inner,),
        _last(MODEL_TENSOR.OUTPUT_NORM): (hidden,),
        _last(MODEL_TENSOR.TOKEN_EMBD): (vocab_size, hidden),
        _last(MODEL_TENSOR.OUTPUT): (vocab_size, hidden),
    }


def _last(tensor: MODEL_TENSOR) -> str:
    return TENSOR_NAMES[tensor].rpartition(".")[2]


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def permuted_rows(target: str, config: Config) -> int:
    """The number of heads among which the rows of this tensor change places; 0 if they do not."""
    module = target.rpartition(".")[0]
    if module.endswith(_last(MODEL_TENSOR.ATTN_Q)):
        return config.heads
    if module.endswith(_last(MODEL_TENSOR.ATTN_K)):
        return config.kv_heads
    return 0


def is_linear(target: str) -> bool:
    """Whether a tensor of the file is the weight of a linear layer inside the model."""
    return target.startswith("blk.") and target.endswith(".weight") and "norm" not in target


def is_token_embedding(target: str) -> bool:
    """Whether a tensor of the file is the token embedding or the output head."""
    return target in (TENSOR_NAMES[MODEL_TENSOR.TOKEN_EMBD] + ".weight", TENSOR_NAMES[MODEL_TENSOR.OUTPUT] + ".weight")


def required_keys(row: Architecture) -> list[Any]:
    """Keys without which llama.cpp does not load a model of this architecture."""
    from gguf import Keys

    keys = [
        Keys.LLM.CONTEXT_LENGTH, Keys.LLM.EMBEDDING_LENGTH, Keys.LLM.BLOCK_COUNT, Keys.LLM.FEED_FORWARD_LENGTH,
        Keys.Attention.HEAD_COUNT, Keys.Attention.LAYERNORM_RMS_EPS,
    ]  # fmt: skip
    return [Keys.General.ARCHITECTURE, *(key.format(arch=row.name) for key in keys)]
