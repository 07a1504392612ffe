"""A finished model's folder: weights, tokeniser, how to use it, and a card with its figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.errors import IntegrityError
from cllm.files import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from cllm.model import Lexicon, ModelSpec, Weights
    from cllm.text.corpus import Corpus

TRAINING = "training.json"


def write_model(
    folder: Path,
    spec: ModelSpec,
    weights: Weights,
    corpus: Corpus,
    training: dict[str, Any],
    lexicon: Lexicon | None = None,
) -> None:
    """Fill an existing empty folder; `training` is what `training.json` keeps."""
    from cllm.model import save_model

    tokenizer, dialogue = corpus.tokenizer, corpus.dialogue
    save_model(folder, spec, weights, lexicon)
    template = dialogue.chat_template if dialogue else None
    tokenizer.save(folder, chat_template=template, context=spec.context)
    generation: dict[str, Any] = {
        "bos_token_id": tokenizer.eos_id,
        "eos_token_id": tokenizer.eos_id,
        "do_sample": True,
        "temperature": 0.8,
    }
    if dialogue:
        generation["stop_strings"] = list(dialogue.stop)
    write_json(folder / "generation_config.json", generation)
    write_json(folder / TRAINING, training)
    write_atomic(folder / "README.md", _card(training, corpus, spec))


def read_training(folder: Path) -> dict[str, Any]:
    """How a model was trained, or {} for one from elsewhere. Raises: IntegrityError."""
    path = folder / TRAINING
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise IntegrityError("the file is damaged: not an object", where=path)
    return value


def write_about_quantised(
    folder: Path, training: dict[str, Any], result: dict[str, Any], spec: ModelSpec
) -> None:
    """The record and the card of a quantised model; `training` is that of the model it is from."""
    figures = dict(training.get("figures") or {})
    figures |= {
        "val_bits_per_byte": result["bits_per_byte"],
        "num_parameters": spec.num_parameters,
    }
    told = training | {"model": result["model"], "figures": figures, "quantisation": result}
    write_json(folder / TRAINING, told)
    write_atomic(folder / "README.md", _quantised_card(result, spec))


def _quantised_card(result: dict[str, Any], spec: ModelSpec) -> str:
    before, after = result["bits_per_byte_before"], result["bits_per_byte"]
    own = "".join(f" with {part.name}" for part in spec.mechanisms)
    return f"""---
library_name: cllm
pipeline_tag: text-generation
---

# {result["model"]}

{result["source"]}, quantised with CLLM; it opens in CLLM alone.

| | |
|---|---|
| parameters | {spec.num_parameters:,} |
| shape | {spec.layers} layers, {spec.width} wide, {spec.heads} heads, context {spec.context}{own} |
| quantised by | {result["method"]} |
| bits per weight | {result["bits_per_weight"]:.3f} (all bytes of the file of weights) |
| file of weights | {result["num_bytes"]:,} bytes (before: {result["num_bytes_before"]:,}) |
| bits per byte | {after:.4f} (before: {before:.4f}) |
| KL divergence | {result["kl_nats"]:.5f} nats a token |
| calibrated on | {result["calibrated_on"]} |
| measured on | {result["measured_on"]}, {result["num_measured_tokens"]:,} tokens |

It writes in the manner of the text it was trained on; what it says is not to be taken for fact.
"""


def _card(training: dict[str, Any], corpus: Corpus, spec: ModelSpec) -> str:
    figures = training["figures"]
    bpb = figures["val_bits_per_byte"]
    quality = "not measured (nothing was held out)" if bpb is None else f"{bpb:.3f}"
    kinds = ", ".join(sorted(corpus.report.rows)) or "text"
    own = ", ".join(part.name for part in spec.mechanisms)
    architecture = f"Qwen3 with {own}: opens only in CLLM" if own else "Qwen3"
    return f"""---
library_name: {"cllm" if own else "transformers"}
pipeline_tag: text-generation
---

# {training["model"]}

A small language model trained with CLLM.

| | |
|---|---|
| parameters | {figures["num_parameters"]:,} |
| shape | {spec.layers} layers, {spec.width} wide, {spec.heads} heads, context {spec.context} |
| architecture | {architecture} |
| tokeniser | {corpus.tokenizer.kind}, {corpus.tokenizer.vocab_size:,} entries |
| trained on | {corpus.train.num_bytes:,} bytes ({kinds}), {figures["tokens"]:,} tokens seen |
| training time | {figures["seconds_total"]:.0f} s |
| held-out bits per byte | {quality} |

The text it was trained on is not part of this folder. It writes in the manner of that text;
what it says is not to be taken for fact.
"""
