"""A model on disk: Hugging Face's layout of Qwen3 or Llama, weights in safetensors only."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cllm.errors import IntegrityError, SettingsError
from cllm.files import read_json, write_json
from cllm.model.folding import kept
from cllm.model.lexicon import LEXICON, Lexicon
from cllm.model.mechanisms.choose import from_records, to_records
from cllm.model.mechanisms.mechanism import needs_of
from cllm.model.packed import MixedWeights, dequantised
from cllm.model.packed_files import from_packed_tensors, to_packed_tensors
from cllm.model.spec import LONGEST_CONTEXT, MOST_LAYERS, ModelSpec
from cllm.model.weights import Weights

if TYPE_CHECKING:
    from cllm.model.transformer import Transformer

CONFIG, WEIGHTS = "config.json", "model.safetensors"
OWN_TYPE = "cllm"
# By the model's type; Llama is Qwen3 without the norms of queries and keys.
_CLASSES = {"qwen3": "Qwen3", "llama": "Llama", OWN_TYPE: "Cllm"}
# The key of a quantised model's configuration under which its packed matrices are described.
QUANTISATION = "quantization"

# Ours on the left; several names on the right are the rows of one fused matrix, in order.
_FUSED = {
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "feed_forward.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "attention.out": ("self_attn.o_proj",),
    "attention.q_norm": ("self_attn.q_norm",),
    "attention.k_norm": ("self_attn.k_norm",),
    "feed_forward.down": ("mlp.down_proj",),
    "attention_norm": ("input_layernorm",),
    "feed_forward_norm": ("post_attention_layernorm",),
}
_OUTER = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


def foreign_names(name: str) -> tuple[str, ...]:
    """The names in Hugging Face's Qwen3 and Llama of one of our parameters; a mechanism's stay."""
    if name.startswith("mechanisms."):
        return (name,)
    stem = name.removesuffix(".weight")
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if block is None:
        return (f"{_OUTER[stem]}.weight",)
    return tuple(f"model.layers.{block[1]}.{part}.weight" for part in _FUSED[block[2]])


def to_qwen3(spec: ModelSpec, weights: Weights) -> Weights:
    """The weights under Qwen3's names, fused matrices taken apart."""
    tensors: Weights = {}
    parameters = spec.parameters()
    for name, value in weights.items():
        names, rows = foreign_names(name), parameters[name].rows
        pieces = [value] if rows is None else np.split(value, np.cumsum(rows)[:-1])
        for foreign, piece in zip(names, pieces, strict=True):
            tensors[foreign] = np.ascontiguousarray(piece, np.float32)
    return tensors


def from_qwen3(
    spec: ModelSpec, tensors: Mapping[str, NDArray[Any]], names: Collection[str] | None = None
) -> Weights:
    """Our weights, or those of some `names`, from Qwen3's. Raises: IntegrityError."""
    weights: Weights = {}
    for name, shape in spec.parameter_shapes().items():
        if names is not None and name not in names:
            continue
        try:
            joined = np.concatenate([tensors[foreign] for foreign in foreign_names(name)])
        except KeyError as error:
            raise IntegrityError(f"the weights lack {error.args[0]}") from None
        if joined.shape != shape:
            message = f"{name} has shape {joined.shape}, not {shape}"
            raise IntegrityError(f"the weights do not fit the configuration: {message}")
        weights[name] = joined.astype(np.float32, copy=False)
    return weights


def to_config(spec: ModelSpec, quantisation: dict[str, Any] | None = None) -> dict[str, Any]:
    """The model's `config.json`, as transformers reads it.

    With mechanisms, or with the record of a quantisation, it is of a type of our own, which no
    other program takes for Qwen3.
    """
    own: dict[str, Any] = {}
    if spec.mechanisms or quantisation is not None:
        own["mechanisms"] = to_records(spec.mechanisms)
    if quantisation is not None:
        own[QUANTISATION] = quantisation
    if own:
        own["has_head_norm"] = spec.has_head_norm
    kind = OWN_TYPE if own else "qwen3" if spec.has_head_norm else "llama"
    return {
        "architectures": [f"{_CLASSES[kind]}ForCausalLM"],
        "model_type": kind,
        **own,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp_width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_width,
        "max_position_embeddings": spec.context,
        "rope_theta": spec.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_base},
        "rms_norm_eps": spec.norm_epsilon,
        "tie_word_embeddings": spec.tied,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "initializer_range": 0.02,
        "bos_token_id": spec.eos_id,
        "eos_token_id": spec.eos_id,
        "dtype": "float32",
        "torch_dtype": "float32",
    }


_MOST = {"num_hidden_layers": MOST_LAYERS, "max_position_embeddings": LONGEST_CONTEXT}


def read_spec(folder: Path) -> ModelSpec:
    """The shape of the model in `folder`. Raises: IntegrityError."""
    path = folder / CONFIG
    config = read_json(path)
    try:
        if str(config["model_type"]) not in _CLASSES:
            found = config["model_type"]
            raise IntegrityError(f"not a Qwen3 or Llama model but {found!r}", where=path)
        is_own = config["model_type"] == OWN_TYPE
        for name, most in _MOST.items():
            if not 1 <= config[name] <= most:
                message = f"{name} is {config[name]:,}, not from 1 to {most:,}"
                raise IntegrityError(message, where=path)
        return ModelSpec(
            vocab_size=config["vocab_size"],
            width=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            head_width=config["head_dim"],
            mlp_width=config["intermediate_size"],
            context=config["max_position_embeddings"],
            rope_base=float(config["rope_theta"]),
            norm_epsilon=config["rms_norm_eps"],
            tied=config["tie_word_embeddings"],
            eos_id=_first_id(config["eos_token_id"]),
            has_head_norm=config.get("has_head_norm", config["model_type"] != "llama"),
            mechanisms=from_records(config["mechanisms"]) if is_own else (),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"the configuration lacks {error}", where=path) from None
    except SettingsError as error:
        raise IntegrityError(
            f"a mechanism of another version: {error.message}", where=path
        ) from None


def _first_id(ids: int | list[int]) -> int:
    return ids if isinstance(ids, int) else ids[0]


def save_model(
    folder: Path,
    spec: ModelSpec,
    weights: Weights,
    lexicon: Lexicon | None = None,
) -> None:
    """Write `config.json` and `model.safetensors` (float32) into an existing folder.

    A mechanism that folds must have been folded. `lexicon` is written where one of the others
    needs it.
    """
    assert kept(spec) == spec.mechanisms, "the caller folds what can be folded"
    write_json(folder / CONFIG, to_config(spec))
    save_file(to_qwen3(spec, weights), folder / WEIGHTS, metadata={"format": "pt"})
    if needs_of(spec.mechanisms):
        assert lexicon is not None
        lexicon.save(folder)


def load_lexicon(folder: Path, spec: ModelSpec) -> Lexicon | None:
    """The model's lexicon, where a mechanism needs one. Raises: IntegrityError."""
    if not needs_of(spec.mechanisms):
        return None
    lexicon = Lexicon.load(folder, spec.vocab_size)
    if lexicon.roots is None and "roots" in needs_of(spec.mechanisms):
        raise IntegrityError("the file lacks the roots", where=folder / LEXICON)
    return lexicon


def save_quantised(
    folder: Path, spec: ModelSpec, weights: MixedWeights, lexicon: Lexicon | None = None
) -> None:
    """Write a model of which some matrices are packed into an existing folder, as `save_model`."""
    assert kept(spec) == spec.mechanisms, "the caller folds what can be folded"
    tensors, record = to_packed_tensors(weights)
    write_json(folder / CONFIG, to_config(spec, record))
    save_file(tensors, folder / WEIGHTS)
    if needs_of(spec.mechanisms):
        assert lexicon is not None
        lexicon.save(folder)


def is_quantised(folder: Path) -> bool:
    """Whether the model in `folder` holds packed matrices. Raises: IntegrityError."""
    config = read_json(folder / CONFIG)
    return isinstance(config, dict) and QUANTISATION in config


def load_weights(
    folder: Path, names: Collection[str] | None = None
) -> tuple[ModelSpec, MixedWeights]:
    """Read a model's shape and its weights: float32, and `Packed` where it is quantised.

    Of a file of which only some `names` are wanted, nothing else is read.
    Raises: IntegrityError naming the damaged file.
    """
    spec, path = read_spec(folder), folder / WEIGHTS
    config = read_json(folder / CONFIG)
    try:
        tensors = _Tensors(path)
        if QUANTISATION in config:
            return spec, from_packed_tensors(spec, tensors, config[QUANTISATION], names)
        return spec, {**from_qwen3(spec, tensors, names)}
    except FileNotFoundError:
        raise IntegrityError("the file is missing", where=path) from None
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"the file is damaged: {error}", where=path) from error
    except IntegrityError as error:
        raise IntegrityError(error.message, where=path) from None


class _Tensors(Mapping[str, NDArray[Any]]):
    """The tensors of a file, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self._file: Any = safe_open(path, framework="np")
        self._names = frozenset(self._file.keys())  # type: ignore[no-untyped-call]

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        tensor: NDArray[Any] = self._file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def load_float_weights(
    folder: Path, names: Collection[str] | None = None
) -> tuple[ModelSpec, Weights]:
    """Read a model's shape and its weights in float32, dequantised where they are packed.

    Of some `names` as `load_weights`. Raises: IntegrityError naming the damaged file.
    """
    spec, weights = load_weights(folder, names)
    return spec, dequantised(weights)


def load_model(folder: Path) -> Transformer:
    """Read a model in float32, ready for inference with torch.

    Raises: IntegrityError naming the damaged file.
    """
    from cllm.model.transformer import Transformer

    spec, weights = load_float_weights(folder)
    model = Transformer(spec, load_lexicon(folder, spec))
    model.load_weights(weights)
    return model.eval()
