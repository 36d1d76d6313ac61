# SPDX-License-Identifier: MIT
"""The Trainer's names of bitsandbytes' optimizers, for libbnb's."""

# Most of transformers' classes are without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import torch

from libbnb import optim
from libbnb._errors import InvalidArgument

# name in TrainingArguments.optim, without "paged_" and "_32bit": class
_CLASSES: dict[str, Any] = {
    "adamw": optim.AdamW,
    "ademamix": optim.AdEMAMix,
    "lion": optim.Lion,
    "rmsprop": optim.RMSprop,
}
_NAMES = {
    **{f"{paged}{name}_{bits}bit": (name, bits, bool(paged)) for name in ("adamw", "ademamix", "lion")
       for bits in (8, 32) for paged in ("", "paged_")},
    "adamw_bnb_8bit": ("adamw", 8, False),
    "ademamix": ("ademamix", 32, False),
    "rmsprop_bnb": ("rmsprop", 32, False),
    "rmsprop_bnb_8bit": ("rmsprop", 8, False),
    "rmsprop_bnb_32bit": ("rmsprop", 32, False),
}  # fmt: skip


def optimizer_cls_and_kwargs(args: Any, model: torch.nn.Module | None = None) -> tuple[type[Any], dict[str, Any]]:
    """The optimizer that `TrainingArguments` names, from libbnb, as `Trainer` takes it.

        Trainer(model, args, optimizer_cls_and_kwargs=optimizer_cls_and_kwargs(args, model), ...)

    Parameters
    ----------
    args
        `TrainingArguments` whose `optim` is a name of an optimizer of bitsandbytes: "adamw_8bit", "adamw_bnb_8bit",
        "paged_adamw_8bit", "paged_adamw_32bit", "lion_8bit", "lion_32bit", "ademamix_8bit", "rmsprop_bnb_8bit" and so
        on. Rates, betas and `optim_args` mean what they mean to the Trainer.
    model
        The model to be trained. In 8 bits, its embeddings get states in 32 bits, as the Trainer does with bitsandbytes.

    Returns
    -------
    tuple
        A class of `libbnb.optim` and its arguments, without the parameters.

    Raises
    ------
    InvalidArgument
        `optim` is no such name, or `optim_args` has something that the optimizer does not know.
    """
    name = getattr(args.optim, "value", args.optim)
    if name not in _NAMES:
        raise InvalidArgument(f"optim is {name!r}, must be one of {', '.join(sorted(_NAMES))}")
    kind, bits, is_paged = _NAMES[name]
    given = _parse(args.optim_args)
    kwargs: dict[str, Any] = {"lr": args.learning_rate, "optim_bits": bits} | _settings(kind, args, given)
    if kind != "rmsprop":
        kwargs["is_paged"] = is_paged
    if given:
        raise InvalidArgument(f"optim_args: {name} has no {', '.join(given)}")
    if bits == 8 and model is not None:
        manager = optim.GlobalOptimManager.get_instance()
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                manager.register_module_override(module, "weight", {"optim_bits": 32})
    return _CLASSES[kind], kwargs


def _parse(optim_args: str | None) -> dict[str, float]:
    """Numbers of "alpha=5.0,beta3=0.999"."""
    pairs = [pair.partition("=") for pair in (optim_args or "").replace(" ", "").split(",") if pair]
    try:
        return {key: float(value) for key, _, value in pairs}
    except ValueError as error:
        raise InvalidArgument(f"optim_args is {optim_args!r}, must be names and numbers: alpha=0.9,eps=1e-8") from error


def _settings(kind: str, args: Any, given: dict[str, float]) -> dict[str, Any]:
    """Arguments of a class; what they take of `optim_args` is gone from there."""
    betas = (args.adam_beta1, args.adam_beta2)
    if kind == "adamw":
        return {"betas": betas, "eps": args.adam_epsilon}
    if kind == "lion":
        return {"betas": betas}
    if kind == "rmsprop":
        return {key: given.pop(key) for key in ("alpha", "eps", "momentum") if key in given}
    three = tuple(given.pop(f"beta{i + 1}", default) for i, default in enumerate((*betas, 0.9999)))
    steps = {key: int(given.pop(key)) for key in ("t_alpha", "t_beta3") if key in given}
    return {"betas": three, "alpha": given.pop("alpha", 5.0), "eps": given.pop("eps", args.adam_epsilon)} | steps
