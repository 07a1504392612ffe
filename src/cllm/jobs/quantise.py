"""Quantise a model: fewer bits a weight, and what that costs, measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.errors import SettingsError
from cllm.files import MANIFEST, check_manifest, copy_files
from cllm.jobs.model_folder import TRAINING, read_training, write_about_quantised
from cllm.quantise.recipe import ALLOWED, Bits, Method, Recipe, default_recipe
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.infer.decoder import Decoder
    from cllm.jobs.calibration import Calibration
    from cllm.jobs.opening import OpenModel
    from cllm.model.packed import MixedWeights, Packed
    from cllm.model.weights import Weights

OnNotice = Callable[[str], None]
OnProgress = Callable[[int, int, str], None]
BITS: dict[str, Bits] = {"8": 8, "4": 4, "3": 3, "2": 2}
# What a budget chooses among, the coarsest first.
CHOICES = (
    Recipe("lattice", 2),
    Recipe("lattice", 3),
    Recipe("lattice", 4),
    Recipe("gptq", 4),
    Recipe("nearest", 8),
)
# Windows on which the budget measures each matrix's part in the loss.
_BUDGET_WINDOWS = 16
_WRITTEN_ANEW = ("config.json", "model.safetensors", "README.md", MANIFEST, TRAINING)


@dataclass(frozen=True, slots=True)
class QuantiseRequest:
    """What is asked for: bits a weight (and by which method), or bytes of the file of weights."""

    bits: Bits | None = None
    method: Method | None = None
    num_bytes: int | None = None
    calibrate: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises: SettingsError where the parts do not fit together."""
        if (self.bits is None) == (self.num_bytes is None):
            hint = "For example: --bits 4, or --bytes 1MB."
            raise SettingsError("say how small it is to be, in one of two ways", hint=hint)
        if self.num_bytes is not None and self.method is not None:
            message = "a budget chooses the method of each matrix itself"
            raise SettingsError(message, where="--method", hint="Leave it out, or give --bits.")
        if self.bits is not None and self.method is not None:
            allowed = ALLOWED[self.method]
            if self.bits not in allowed:
                shown = ", ".join(map(str, allowed))
                hint = f"{self.method} can do {shown}; lattice does 2 to 4."
                message = f"{self.method} can't make {self.bits} bits"
                raise SettingsError(message, where="--method", hint=hint)


@dataclass(frozen=True, slots=True)
class QuantiseResult:
    """What became of a model; `num_bytes` are those of the file of weights.

    `bits_per_weight` counts all bytes of that file. Bits per byte and the KL divergence (nats a
    token) are measured on `num_measured_tokens` of `measured_on`, tokens a second on one text.
    """

    model: str
    source: str
    method: str
    bits_per_weight: float
    num_bytes: int
    num_bytes_before: int
    bits_per_byte: float
    bits_per_byte_before: float
    kl_nats: float
    tokens_per_s: float
    tokens_per_s_before: float
    num_measured_tokens: int
    calibrated_on: str
    measured_on: str
    matrices: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def default_name(model: str, request: QuantiseRequest) -> str:
    """MODEL-4bit, or MODEL-small where bytes are given."""
    ending = "small" if request.bits is None else f"{request.bits}bit"
    return f"{model[: 63 - len(ending)]}-{ending}"


def quantise(
    model: str,
    request: QuantiseRequest,
    *,
    workspace: Workspace,
    name: str | None = None,
    overwrite: bool = False,
    on_notice: OnNotice = lambda _: None,
    on_progress: OnProgress = lambda *_: None,
) -> QuantiseResult:
    """Write the model `name` (MODEL-4bit and the like unless given) with packed matrices.

    Raises: SettingsError, NotFoundError, ExistsError before any work; NoTextError, IntegrityError.
    """
    from cllm.jobs.calibration import calibration_text
    from cllm.jobs.opening import open_decoder, open_model
    from cllm.jobs.tuning import STEPS, tuned
    from cllm.model.files import is_quantised, load_float_weights, load_lexicon, save_quantised

    request.check()
    folder, name = workspace.models.path(model), name or default_name(model, request)
    workspace.models.check_free(name, overwrite=overwrite)
    check_manifest(folder)
    if is_quantised(folder):
        hint = "Quantise the model that it was made from."
        raise SettingsError(f"{model} is quantised already", hint=hint)
    opened = open_model(folder, workspace.home)
    if opened.notice is not None:
        on_notice(opened.notice)
    _, weights = load_float_weights(folder)
    text = calibration_text(request.calibrate, folder, opened)
    on_notice(f"Calibrating on {text.source}, measuring on {text.measured_source}.")
    lexicon = load_lexicon(folder, opened.spec)

    def decoder(mixed: MixedWeights) -> Decoder:
        return open_decoder(opened.spec, mixed, workspace.home, lexicon=lexicon)[0]

    mixed, method = _quantised(opened, weights, request, text, decoder, on_progress)
    mixed = tuned(
        opened.spec,
        mixed,
        text.windows,
        workspace.home,
        lambda step: on_progress(step, STEPS, "tuning"),
    )
    measured = _measured(opened, mixed, text, folder, decoder(mixed))
    result = replace(measured, model=name, source=model, method=method)
    with workspace.models.write(name, overwrite=overwrite) as target:
        copy_files(folder, target, leave_out=_WRITTEN_ANEW)
        save_quantised(target, opened.spec, mixed, lexicon)
        write_about_quantised(target, read_training(folder), result.to_json(), opened.spec)
    return result


def _quantised(
    opened: OpenModel,
    weights: Weights,
    request: QuantiseRequest,
    text: Calibration,
    decoder: Callable[[MixedWeights], Decoder],
    on_progress: OnProgress,
) -> tuple[MixedWeights, str]:
    """The packed weights, and how they were made."""
    from cllm.jobs.calibration import second_moments
    from cllm.jobs.comparison import nats_per_token
    from cllm.quantise.plan import prepare_budget, quantise_weights

    moments = second_moments(opened.decoder, text.windows)
    if request.bits is not None:
        recipe = default_recipe(request.bits)
        if request.method is not None:
            recipe = Recipe(request.method, request.bits)
        made = quantise_weights(opened.spec, weights, recipe, moments, on_progress)
        return made, f"{recipe.method}, {recipe.bits} bits"
    assert request.num_bytes is not None
    windows = text.windows[:: max(1, len(text.windows) // _BUDGET_WINDOWS)][:_BUDGET_WINDOWS]
    budget = prepare_budget(
        opened.spec,
        weights,
        CHOICES,
        moments,
        loss=lambda mixed: nats_per_token(decoder(mixed), windows),
        file_bytes=file_bytes,
        on_progress=on_progress,
    )
    fitting = budget.fit(request.num_bytes)
    if fitting is None:
        least = file_bytes(budget.coarsest)
        raise SettingsError(
            f"the smallest file of this model has {least:,} bytes",
            where="--bytes",
            hint=f"Give at least {least:,}, or train a smaller model.",
        )
    return fitting, f"a budget of {request.num_bytes:,} bytes"


def _measured(
    opened: OpenModel,
    mixed: MixedWeights,
    text: Calibration,
    folder: Path,
    after: Decoder,
) -> QuantiseResult:
    """The figures, before and after; names are filled in by the caller."""
    from cllm.jobs.comparison import compare, writing_speed
    from cllm.model.packed import is_packed

    found = compare(opened.decoder, after, text.measured, opened.tokenizer)
    slow, fast = writing_speed([opened.decoder, after], opened.tokenizer)
    num_bytes = file_bytes(mixed)
    return QuantiseResult(
        model="",
        source="",
        method="",
        bits_per_weight=8 * num_bytes / opened.spec.num_parameters,
        num_bytes=num_bytes,
        num_bytes_before=(folder / "model.safetensors").stat().st_size,
        bits_per_byte=found.bits_per_byte_after,
        bits_per_byte_before=found.bits_per_byte_before,
        kl_nats=found.kl_nats,
        tokens_per_s=fast,
        tokens_per_s_before=slow,
        num_measured_tokens=found.num_tokens,
        calibrated_on=text.source,
        measured_on=text.measured_source,
        matrices={name: describe(value) for name, value in mixed.items() if is_packed(value)},
    )


def describe(packed: Packed) -> str:
    """A packed matrix in a word: int8, int4, or e8 with its bits."""
    if packed.kind != "e8":
        return packed.kind
    return f"e8, {sum(8 * codes.itemsize for codes in packed.codes) // 8} bits"


def file_bytes(mixed: MixedWeights) -> int:
    """The size of the file of such weights."""
    from safetensors.numpy import save

    from cllm.model.packed_files import to_packed_tensors

    return len(save(to_packed_tensors(mixed)[0]))
