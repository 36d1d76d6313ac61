# SPDX-License-Identifier: MIT
"""config.json of a Hugging Face model: its numbers, checked."""

from __future__ import annotations

from typing import Any, cast

from libbnb.integrations.gguf._errors import GGUFError

_MOST = 2**31 - 1  # numbers of a config become uint32, and llama.cpp's int


class Config:
    """What an export wants to know of config.json.

    Parameters
    ----------
    values : dict
        Its content.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def get(self, key: str, default: Any = None) -> Any:
        """A value; the default also for null."""
        value = self._values.get(key)
        return default if value is None else value

    @property
    def class_name(self) -> str:
        """The first of "architectures", or ""."""
        names = self.get("architectures")
        first: Any = cast(list[Any], names)[0] if isinstance(names, list) and names else ""
        return first if isinstance(first, str) else ""

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number of at least one.

        Raises
        ------
        GGUFError
            It is missing and has no default, or is something else.
        """
        value = self.get(key, default)
        if type(value) is not int or not 1 <= value <= _MOST:
            raise GGUFError(f"config.json: {key} is {value!r}, must be a number from 1 on")
        return value

    def number(self, values: dict[str, Any], key: str, default: float | None = None) -> float:
        """A positive finite number of this or another dict of the config."""
        value = values.get(key)
        value = default if value is None else value
        if type(value) not in (int, float) or not 0 < cast(float, value) < float("inf"):
            raise GGUFError(f"config.json: {key} is {value!r}, must be a positive number")
        return float(cast(float, value))

    @property
    def layers(self) -> int:
        """Layers."""
        return self.count("num_hidden_layers")

    @property
    def hidden_size(self) -> int:
        """Elements of a token's state."""
        return self.count("hidden_size")

    @property
    def heads(self) -> int:
        """Heads."""
        return self.count("num_attention_heads")

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.count("num_key_value_heads", self.heads)

    @property
    def head_size(self) -> int:
        """Elements of a head."""
        return self.count("head_dim", self.hidden_size // self.heads)

    @property
    def eps(self) -> float:
        """What RMSNorm adds."""
        return self.number(self._values, "rms_norm_eps")

    @property
    def rope(self) -> dict[str, Any]:
        """The rotary embedding: "rope_type", "rope_theta", and what the type needs.

        transformers before 5 spread it over "rope_theta" and "rope_scaling", and called the type "type".
        """
        found: Any = self.get("rope_parameters") or self.get("rope_scaling") or {}
        if not isinstance(found, dict):
            raise GGUFError(f"config.json: rope_scaling is {found!r}, must be an object")
        rope = cast(dict[str, Any], found)
        kind = rope.get("rope_type") or rope.get("type") or "default"
        return {"rope_theta": self.get("rope_theta", 10000.0)} | rope | {"rope_type": kind}
