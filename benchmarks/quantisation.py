"""What quantising costs: on Gaussian numbers by rate, and on a model against llama.cpp's formats.

First the mean squared error of normal numbers in scalars, E8 codes and shells of the Leech
lattice, at equal rate. Then, with a model's name: bits per byte and KL divergence of each number
of bits, and of files that llama.cpp itself makes of the same weights (with the importance of each
column from the same text), beside ours of at most as many bytes. Of llama.cpp's files only the
tensors' bytes count, of ours all bytes of the file. Its weights are read by the same decoder in
float32, so that it is spared the rounding of activations, which ours do.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cllm.jobs.calibration import Calibration, calibration_text, second_moments
from cllm.jobs.comparison import compare, nats_per_token
from cllm.jobs.opening import OpenModel, open_decoder, open_model
from cllm.jobs.quantise import CHOICES, file_bytes
from cllm.jobs.tuning import tuned
from cllm.jobs.workspace import Workspace
from cllm.model.files import load_float_weights
from cllm.model.packed import MixedWeights
from cllm.numbers.leech_decoder import nearest_leech_coordinates
from cllm.quantise.e8_codes import nearest_codes, values_of
from cllm.quantise.lattice import STAGES
from cllm.quantise.plan import Budget, prepare_budget, quantise_weights
from cllm.quantise.recipe import Recipe
from surroundings import surroundings

Floats = npt.NDArray[np.float64]

NUM_POINTS = 24_000
# 2^48 points of the Leech lattice: 0 and the shells up to norm 26 are 280,974,212,784,721.
LEECH_NORM = 26
FORMATS = ("Q8_0", "Q4_0", "Q2_K", "IQ2_S", "IQ2_XS", "IQ2_XXS")
# Our names of what llama.cpp keeps in several tensors.
NAMES = {
    "attention.qkv": ("attn_q", "attn_k", "attn_v"),
    "attention.out": ("attn_output",),
    "feed_forward.gate_up": ("ffn_gate", "ffn_up"),
    "feed_forward.down": ("ffn_down",),
    "attention_norm": ("attn_norm",),
    "feed_forward_norm": ("ffn_norm",),
    "attention.q_norm": ("attn_q_norm",),
    "attention.k_norm": ("attn_k_norm",),
}
OUTER = {"embedding.weight": "token_embd", "norm.weight": "output_norm", "head.weight": "output"}


def scalar_error(values: Floats, levels: int) -> float:
    """Lloyd's best levels for these very numbers."""
    points = np.quantile(values, (np.arange(levels) + 0.5) / levels)
    flat = values.ravel()
    for _ in range(60):
        nearest = np.searchsorted((points[1:] + points[:-1]) / 2, flat)
        points = np.bincount(nearest, flat, levels) / np.maximum(np.bincount(nearest), 1)
    nearest = np.searchsorted((points[1:] + points[:-1]) / 2, flat)
    return float(((flat - points[nearest]) ** 2).mean())


def best_scale(error: Callable[[float], float], scales: Floats) -> float:
    """The least error over the scales."""
    return min(error(float(scale)) for scale in scales)


def e8_error(values: Floats, bits: int, scale: float) -> float:
    """E8 codes in stages, greedily, as `cllm quantize` has them."""
    blocks = values.reshape(-1, 8) / scale
    total = np.zeros(blocks.shape)
    for kind, ratio in STAGES[bits][0]:
        codes = nearest_codes(((blocks - total) / ratio).astype(np.float32), kind)
        total += ratio * values_of(codes).astype(np.float64)
    return float(((blocks - total) ** 2).mean() * scale**2)


def leech_error(values: Floats, scale: float) -> float:
    """The nearest Leech point, of those within the ball; from outside, along the ray inwards."""
    points = values.reshape(-1, 24) / scale
    found = np.zeros(points.shape)
    left, factor = np.arange(len(points)), np.ones(len(points))
    while len(left):
        near = nearest_leech_coordinates(points[left] * factor[left, None]) / np.sqrt(8)
        is_in = (near**2).sum(1) <= LEECH_NORM + 1e-6
        found[left[is_in]] = near[is_in]
        left = left[~is_in]
        factor[left] *= 0.98
    return float(((points - found) ** 2).mean() * scale**2)


def gaussian() -> dict[str, float]:
    """Mean squared errors of normal numbers of deviation 1."""
    values = np.random.default_rng(0).standard_normal((NUM_POINTS, 24))
    rows = {"2 bits, scalar": scalar_error(values, 4)}
    rows["2 bits, E8"] = best_scale(lambda s: e8_error(values, 2, s), np.arange(0.21, 0.28, 0.01))
    few = values[: NUM_POINTS // 4]
    rows["2 bits, Leech"] = best_scale(lambda s: leech_error(few, s), np.arange(0.9, 1.2, 0.05))
    rows["3 bits, scalar"] = scalar_error(values, 8)
    rows["3 bits, E8"] = best_scale(lambda s: e8_error(values, 3, s), np.arange(0.22, 0.29, 0.01))
    rows["4 bits, scalar"] = scalar_error(values, 16)
    scales = np.arange(0.06, 0.08, 0.0025)
    rows["4 bits, E8"] = best_scale(lambda s: e8_error(values, 4, s), scales)
    rows |= {f"{bits} bits, bound": 4.0**-bits for bits in (2, 3, 4)}
    return rows


class Trial:
    """A model with its text, and what is to be measured of its weights."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace, self.folder = workspace, workspace.models.path(name)
        self.opened: OpenModel = open_model(self.folder, workspace.home)
        self.text: Calibration = calibration_text((), self.folder, self.opened)
        self.spec, self.weights = load_float_weights(self.folder)
        self.moments = second_moments(self.opened.decoder, self.text.windows)

    def decoder(self, weights: MixedWeights) -> Any:
        return open_decoder(self.spec, weights, self.workspace.home)[0]

    def row(self, what: str, weights: MixedWeights, num_bytes: int) -> dict[str, Any]:
        """Loss and size, printed and returned."""
        decoder = self.decoder(weights)
        found = compare(self.opened.decoder, decoder, self.text.measured, self.opened.tokenizer)
        rise = 100 * (found.bits_per_byte_after / found.bits_per_byte_before - 1)
        bits = 8 * num_bytes / self.spec.num_parameters
        print(f"{what:34}{bits:8.3f} bits{num_bytes:12,} bytes{rise:+9.3f}%{found.kl_nats:10.5f}")
        return {
            "what": what,
            "bits_per_weight": bits,
            "num_bytes": num_bytes,
            "rise_percent": rise,
            "kl_nats": found.kl_nats,
        }

    def by_bits(self, recipe: Recipe) -> list[dict[str, Any]]:
        mixed = quantise_weights(self.spec, self.weights, recipe, self.moments, lambda *_: None)
        what = f"{recipe.method}, {recipe.bits} bits"
        rows = [self.row(what, mixed, file_bytes(mixed))]
        return rows + ([self.tuned(what, mixed)] if recipe.bits == 2 else [])

    def budget(self) -> Budget:
        windows = self.text.windows[:: max(1, len(self.text.windows) // 16)][:16]
        return prepare_budget(
            self.spec,
            self.weights,
            CHOICES,
            self.moments,
            loss=lambda weights: nats_per_token(self.decoder(weights), windows),
            file_bytes=file_bytes,
            on_progress=lambda *_: None,
        )

    def within(self, budget: Budget, num_bytes: int, what: str) -> list[dict[str, Any]]:
        """Ours of at most so many bytes."""
        mixed = budget.fit(num_bytes)
        if mixed is None:
            print(f"{what}: the smallest file has {file_bytes(budget.coarsest):,} bytes")
            return []
        return [self.row(what, mixed, file_bytes(mixed))]

    def tuned(self, what: str, mixed: MixedWeights) -> dict[str, Any]:
        home = self.workspace.home
        better = tuned(self.spec, mixed, self.text.windows, home, lambda _: None)
        return self.row(f"{what}, tuned", better, file_bytes(better))


def llama_files(trial: Trial, folder: Path) -> dict[str, Path]:
    """The model in each of llama.cpp's formats, by its own program.

    As it mixes them (it keeps the embedding in 5 bits or more), and pure: one format for all.
    """
    import llama_cpp.llama_cpp as llama

    from cllm.export.gguf_writer import write_gguf

    silent = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silent, None)
    plain = folder / "plain.gguf"
    write_gguf(trial.folder, plain, dtype="f32")
    rows, kept = [], []
    for name, moments in trial.moments.items():
        shares = np.ascontiguousarray(np.diag(moments) / trial.text.windows.size, np.float32)
        for tensor in foreign_names(name):
            rows.append((tensor.encode(), shares.ctypes.data_as(ctypes.POINTER(ctypes.c_float))))
            kept.append(shares)
    table = (llama.llama_model_imatrix_data * (len(rows) + 1))()
    for entry, (tensor, pointer), shares in zip(table, rows, kept, strict=False):
        entry.name, entry.data, entry.size = tensor, pointer, len(shares)
    files = {}
    for kind, is_pure in itertools.product(FORMATS, (False, True)):
        if is_pure and kind in ("Q8_0", "Q2_K"):
            continue
        settings = llama.llama_model_quantize_default_params()
        settings.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{kind}")
        settings.imatrix = ctypes.cast(table, ctypes.POINTER(llama.llama_model_imatrix_data))
        settings.pure = is_pure
        name = f"{kind}, pure" if is_pure else kind
        target = folder / f"{name}.gguf"
        if llama.llama_model_quantize(bytes(plain), bytes(target), ctypes.byref(settings)) == 0:
            files[name] = target
    return files


def foreign_names(name: str) -> list[str]:
    """llama.cpp's names of one of our parameters."""
    if name in OUTER:
        return [f"{OUTER[name]}.weight"]
    _, layer, stem = name.removesuffix(".weight").split(".", 2)
    return [f"blk.{layer}.{part}.weight" for part in NAMES[stem]]


def read_back(path: Path, trial: Trial) -> tuple[MixedWeights, int]:
    """The weights of a GGUF file in float32, and the bytes of its tensors."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    weights: MixedWeights = {}
    for name, shape in trial.spec.parameter_shapes().items():
        parts = [tensors[part] for part in foreign_names(name)]
        values = [dequantize(part.data, part.tensor_type).astype(np.float32) for part in parts]
        weights[name] = np.concatenate(values).reshape(shape)
    return weights, sum(int(tensor.n_bytes) for tensor in tensors.values())


def main() -> None:
    """Print the tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="a model of the workspace")
    wanted = parser.parse_args()
    figures: dict[str, Any] = {"gaussian": gaussian()}
    for what, error in figures["gaussian"].items():
        print(f"{what:20}{error:10.4f}")
    if wanted.model:
        trial = Trial(Workspace(), wanted.model)
        recipes = [Recipe("nearest", 8), Recipe("nearest", 4), Recipe("gptq", 4)]
        recipes += [Recipe("lattice", 4), Recipe("lattice", 3), Recipe("lattice", 2)]
        rows = [row for recipe in recipes for row in trial.by_bits(recipe)]
        budget = trial.budget()
        with tempfile.TemporaryDirectory() as folder:
            for kind, path in llama_files(trial, Path(folder)).items():
                weights, num_bytes = read_back(path, trial)
                rows.append(trial.row(f"llama.cpp {kind}", weights, num_bytes))
                if kind != "Q8_0":
                    rows += trial.within(budget, num_bytes, f"ours within {kind}'s bytes")
        figures["model"] = rows
    print(json.dumps({"benchmark": "quantisation", **figures, **surroundings()}))


if __name__ == "__main__":
    main()
