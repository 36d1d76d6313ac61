# SPDX-License-Identifier: MIT
"""Writing a checkpoint as a GGUF file."""

from __future__ import annotations

import os
import shutil
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import yaml

from libbnb.checkpoint.errors import os_errors_name
from libbnb.checkpoint.progress import Progress, Silent
from libbnb.checkpoint.read_ahead import ReadAhead
from libbnb.checkpoint.run import Stopwatch
from libbnb.checkpoint.source import Source, open_source
from libbnb.checkpoint.step import ByteArray
from libbnb.integrations.gguf._architectures import (
    EMBEDDING,
    OUTPUT_HEAD,
    Architecture,
    find_architecture,
    refuse_unsupported,
    unsupported,
)
from libbnb.integrations.gguf._config import Config
from libbnb.integrations.gguf._errors import GGUFError
from libbnb.integrations.gguf._hyperparameters import add_hyperparameters
from libbnb.integrations.gguf._plan import Plan, Planner, Types, parameter_count
from libbnb.integrations.gguf._tensors import Output, make
from libbnb.integrations.gguf._tokenizer import add_to, no_vocabulary, read_vocabulary
from libbnb.integrations.gguf._types import Type, find_type

SUFFIX = ".gguf"
GENERIC = "generic"  # `general.architecture` of files that no program can run


@dataclass
class GGUFSummary:
    """What was written.

    Attributes
    ----------
    source, destination : str
        Paths.
    type : str
        The type of the linear layers' weights.
    architecture : str
        `general.architecture`; "generic" for a file with tensors only.
    complete : bool
        Whether the file has all that a program needs to build the model.
    tensors, parameters : int
        What is in the file.
    bytes_before, bytes_after : int
        Of the tensors in the checkpoint; of the file.
    seconds : float
        Time for reading, working and writing.
    types : dict
        Type and number of tensors.
    left_out : dict
        Reason: names of tensors that are not in the file.
    notes : list of str
        What a user should know.
    """

    source: str = ""
    destination: str = ""
    type: str = ""
    architecture: str = ""
    complete: bool = False
    tensors: int = 0
    parameters: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    types: dict[str, int] = field(default_factory=lambda: dict[str, int]())
    left_out: dict[str, list[str]] = field(default_factory=lambda: dict[str, list[str]]())
    notes: list[str] = field(default_factory=lambda: list[str]())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Options:
    """What decides the file besides the checkpoint; see `export_gguf`."""

    types: Types
    generic: bool = False
    tokenizer: bool = True
    pre_tokenizer: str | None = None


def export_gguf(
    source: Path | str,
    destination: Path | str | None = None,
    quant_type: str = "q8_0",
    *,
    embedding_type: str | None = None,
    fallback: str | None = None,
    ternarize: bool = False,
    generic: bool = False,
    tokenizer: bool = True,
    pre_tokenizer: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> GGUFSummary:
    """Write a checkpoint as a GGUF file.

    Models of the classes LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and BitNetForCausalLM become complete
    files that llama.cpp loads. Of anything else the tensors are written under their own names, and the summary says so.

    Parameters
    ----------
    source
        A model folder, or a safetensors file; plain, or quantized by libbnb, bitsandbytes or transformers' BitNet.
    destination
        The file; None for the source's name and the type, in the current folder.
    quant_type
        Type of the linear layers' weights, one of `TYPE_NAMES`. Vectors are f32.
    embedding_type
        Type of token embedding and output head; None for `quant_type` if that is a plain float, else q8_0, or f16 where
        rows are not a multiple of 32. It cannot be ternary.
    fallback
        Type of weights whose rows are not a multiple of the block of `quant_type`; None makes them an error.
    ternarize
        Rounds weights to -s, 0, s, with s the mean magnitude of each, for tq1_0 and tq2_0. Without it, weights that are
        not ternary are an error.
    generic
        Write only tensors, whatever the model is.
    tokenizer
        Whether the tokenizer is written, too.
    pre_tokenizer
        llama.cpp's name for the way in which the tokenizer cuts text, where it cannot be found out.
    force
        Replace a file that is there.
    progress
        Is told how far the work is.

    Returns
    -------
    GGUFSummary
        What is in the file.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be read.
    GGUFError
        The model cannot be exported like this, or the file cannot be written; nothing is left behind.
    """
    watch = Stopwatch()
    opened = open_source(Path(source))
    types = _types(quant_type, embedding_type, fallback, ternarize)
    target = _destination(opened, destination, types.linear, force)
    options = Options(types, generic, tokenizer, pre_tokenizer)
    row = None if generic else _architecture(opened)
    writer = gguf.GGUFWriter(target.with_name(target.name + ".partial"), row.name if row else GENERIC)
    plan = _complete(writer, row, opened, options) if row else _generic(opened, options)
    if not plan.outputs:
        raise GGUFError(f"{opened.path}: has no tensor that can be in a GGUF file")
    _add_general(writer, plan, opened, types.linear)
    _write(writer, plan, target, progress or Silent())
    return GGUFSummary(
        str(opened.path), str(target), types.linear.name, row.name if row else GENERIC, row is not None,
        tensors=len(plan.outputs), parameters=parameter_count(plan),
        bytes_before=sum(tensor.nbytes for tensor in opened.tensors.values()), bytes_after=target.stat().st_size,
        seconds=watch.seconds(), types=dict(Counter(output.ggml.name for output in plan.outputs)),
        left_out=plan.left_out, notes=plan.notes,
    )  # fmt: skip


def _types(quant_type: str, embedding_type: str | None, fallback: str | None, ternarize: bool) -> Types:
    linear = find_type(quant_type, "quant_type")
    embedding = find_type(embedding_type, "embedding_type") if embedding_type else None
    other = find_type(fallback, "fallback") if fallback else None
    for what, one in (("embedding_type", embedding), ("fallback", other)):
        if one is not None and one.is_ternary:
            raise GGUFError(f"{what} is {one.name}: ternary types are for the weights of linear layers only")
    if ternarize and not linear.is_ternary:
        raise GGUFError(f"ternarize is for ternary types, not for {linear.name}")
    return Types(linear, embedding, other, ternarize)


def _destination(source: Source, destination: Path | str | None, linear: Type, force: bool) -> Path:
    name = source.path.resolve().name if source.is_folder else source.path.stem
    target = (Path(f"{name}-{linear.name}{SUFFIX}") if destination is None else Path(destination)).absolute()
    with os_errors_name(target):
        if target.is_dir():
            raise GGUFError(f"{target}: is a folder; give the name of a file")
        if (target.exists() or target.is_symlink()) and not force:
            raise GGUFError(f"{target}: already exists; --force replaces it")
        if not target.parent.is_dir():
            raise GGUFError(f"{target}: there is no folder {target.parent}")
    return target


# ---------------------------------------------------------------------------------------------------------------------
# What is in the file


def _architecture(source: Source) -> Architecture | None:
    if source.config is None:
        return None
    config = Config(source.config)
    row = find_architecture(config)
    if row is not None:
        refuse_unsupported(row, config)
    return row


def _complete(writer: gguf.GGUFWriter, row: Architecture, source: Source, options: Options) -> Plan:
    """Plan a file that llama.cpp loads, and add the metadata of its architecture and its tokenizer."""
    config = Config(source.config or {})
    planner = Planner(source, options.types)
    is_tied = bool(config.get("tie_word_embeddings", False))
    if row.ties and not is_tied:
        raise unsupported(f"tie_word_embeddings is false, but {row.name} has no output head besides the embedding")
    if not row.ties and not is_tied and OUTPUT_HEAD not in planner.names:
        raise unsupported(f"there is no {OUTPUT_HEAD}, and tie_word_embeddings is not true")
    plan = planner.complete(row, config, is_tied)
    rows = planner.shape(EMBEDDING)[0]
    plan.notes += [row.note] if row.note else []
    plan.notes += add_hyperparameters(writer, row, config, rows)
    if options.tokenizer:
        vocabulary = read_vocabulary(source.path, rows, options.pre_tokenizer)
    else:
        vocabulary = no_vocabulary()
    add_to(writer, vocabulary, source.path)
    plan.notes += vocabulary.notes
    return plan


def _generic(source: Source, options: Options) -> Plan:
    plan = Planner(source, options.types).generic()
    kind = (source.config or {}).get("architectures") or (source.config or {}).get("model_type")
    why = "only tensors were asked for" if options.generic else f"libbnb knows no GGUF architecture for {kind or 'it'}"
    plan.notes.insert(0, f"{why}: the file holds tensors under the checkpoint's names, not a model that llama.cpp runs")
    return plan


def _add_general(writer: gguf.GGUFWriter, plan: Plan, source: Source, linear: Type) -> None:
    count = parameter_count(plan)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(source.path.resolve().name if source.is_folder else source.path.stem)
    writer.add_size_label(gguf.size_label(count, count, 0, 0))
    writer.add_file_type(linear.file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if not source.is_folder:
        return
    try:
        card: Any = gguf.Metadata.load_model_card(source.path)
    except (yaml.YAMLError, ValueError):
        plan.notes.append("the head of README.md is not valid YAML: the licence is not in the file")
        return
    for key, add in (
        ("license", writer.add_license), ("license_name", writer.add_license_name),
        ("license_link", writer.add_license_link),
    ):  # fmt: skip
        if isinstance(card.get(key), str):
            add(card[key])


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def _write(writer: gguf.GGUFWriter, plan: Plan, target: Path, progress: Progress) -> None:
    """Write under a temporary name, which becomes the file's when all of it is on the disk."""
    temporary = target.with_name(target.name + ".partial")
    with os_errors_name(temporary):
        _refuse_full_disk(target, sum(output.nbytes for output in plan.outputs))
    for output in plan.outputs:
        writer.add_tensor_info(output.name, output.shape, np.dtype(np.float32), output.nbytes, output.ggml)
    try:
        with os_errors_name(temporary):
            _write_header(writer)
            _write_tensors(writer, plan, progress)
            writer.flush()
            for file in writer.fout or []:
                os.fsync(file.fileno())
            writer.close()
            temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            writer.close()
        temporary.unlink(missing_ok=True)
        raise


def _write_header(writer: gguf.GGUFWriter) -> None:
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    except (struct.error, UnicodeEncodeError) as error:
        raise GGUFError(f"a value of the model's description does not fit into GGUF: {error}") from error


def _write_tensors(writer: gguf.GGUFWriter, plan: Plan, progress: Progress) -> None:
    reads = [read for output in plan.outputs for read in output.reads]
    progress.start(sum(read.nbytes for read in reads), 0)
    with ReadAhead(reads) as data:
        chunks = iter(data)
        for output in plan.outputs:
            writer.write_tensor_data(_made(output, chunks, progress))


def _made(output: Output, chunks: Iterator[ByteArray], progress: Progress) -> Any:
    total = sum(read.nbytes for read in output.reads)

    def advance(nbytes: int) -> None:
        progress.advance(output.source, nbytes, round(output.size * nbytes / max(1, total)))

    return make(output, chunks, advance)


def _refuse_full_disk(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise GGUFError(
            f"{target}: no space left on device: the result has {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        )
