"""Write a model for another program, and prove with that program that it is the same model."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from cllm.errors import CllmError, StorageError
from cllm.export.opened import PROGRAMS, Opened, Target, Trials
from cllm.export.place import RECORD, check_place, write_place
from cllm.export.verdict import Verdict
from cllm.files import MANIFEST, check_manifest, write_atomic, write_folder, write_json
from cllm.infer.decoder import Decoder
from cllm.jobs.model_folder import TRAINING, read_training
from cllm.native.stream import Feed
from cllm.text.tokenizers import Tokenizer
from cllm.text.tokenizers.foreign import special_tokens
from cllm.workspace.workspace import Workspace

Notice = Callable[[str], None]
Writer = Callable[..., list[Path]]

# What writes each kind, and the number formats that it can have; the first is the usual one.
_WRITERS: dict[Target, tuple[str, str, str]] = {
    "hf": ("cllm.export.huggingface", "write_huggingface", "HUGGINGFACE_DTYPES"),
    "gguf": ("cllm.export.gguf_writer", "write_gguf", "GGUF_DTYPES"),
    "onnx": ("cllm.export.onnx_graph", "write_onnx", "ONNX_DTYPES"),
    "numpy": ("cllm.export.numpy_model", "write_numpy", "NUMPY_DTYPES"),
}
_CARD = "README.md"
_USE = {
    "onnx": "`model.onnx` opens in onnxruntime; its inputs and outputs have the names that "
    "optimum and onnxruntime-genai use, with the cache as `past_key_values` and `present`.",
    "numpy": '`python model.py "A prompt"` continues a text; it needs numpy and tokenizers, and '
    "is short enough to be read.",
}


class OwnModel:
    """The model as CLLM itself runs it, asked in the same way as the other program."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer) -> None:
        self._decoder, self._tokenizer = decoder, tokenizer

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text."""
        return [int(token) for token in self._tokenizer.encode(text)]

    def logits(self, ids: Sequence[int]) -> Float32[np.ndarray, "T V"]:
        """Scores of what follows each of the tokens."""
        self._decoder.truncate(0, 0)
        return self._decoder.feed([Feed(0, ids)], every=True)

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The `count` likeliest tokens, one after the other."""
        self._decoder.truncate(0, 0)
        made: list[int] = []
        fresh: Sequence[int] = ids
        while len(made) < count:
            fresh = [int(self._decoder.feed([Feed(0, fresh)])[-1].argmax())]
            made += fresh
        return made


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Where an export lies, and what the other program made of it."""

    model: str
    target: str
    dtype: str
    output: Path
    num_bytes: int
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "to": self.target,
            "dtype": self.dtype,
            "output": str(self.output),
            "num_bytes": self.num_bytes,
            "verdict": self.verdict.to_json(),
        }


def export_model(
    workspace: Workspace,
    model: str,
    target: Target,
    *,
    output: Path | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
    on_notice: Notice | None = None,
) -> ExportResult:
    """Write `model` to `output` (default: a name made from the model's, here), and compare.

    Where the other program is installed, the export appears only if it is the same model there;
    the verdict is kept in the export's and in the model's card.
    Raises: NotFoundError, SettingsError, InputError, ExistsError, IntegrityError, StorageError;
    CllmError when the other program finds another model.
    """
    from cllm.export.plain_model import require_dtype, require_plain
    from cllm.export.verdict import judge
    from cllm.model.files import is_quantised, read_spec

    tell = on_notice or (lambda _: None)
    folder = workspace.models.path(model)
    write, dtypes = _writer(target)
    dtype = require_dtype(dtype, dtypes, target)
    is_file = target == "gguf"
    output = Path(output or _default_name(model, target, dtype)).expanduser().resolve()
    check_place(output, is_file=is_file, overwrite=overwrite)
    require_plain(read_spec(folder))
    check_manifest(folder)
    if is_quantised(folder):
        tell(f"{model} is quantised: its weights are written out in {dtype}, and take more room.")
    with write_place(output, is_file=is_file, overwrite=overwrite) as place:
        write(folder, place, dtype=dtype)
        tell(f"Written; comparing with what {PROGRAMS[target][1]} reads …")
        own, trials = _own_side(folder, workspace.home)
        verdict = judge(own, target, place, dtype, trials)
        if not verdict.passed:
            raise _difference(verdict)
        if not is_file:
            _finish_folder(place, folder, model, target, verdict)
    _remember(folder, verdict, tell)
    return ExportResult(model, target, dtype, output, _size(output), verdict)


def _writer(target: Target) -> tuple[Writer, tuple[str, ...]]:
    path, function, dtypes = _WRITERS[target]
    module = importlib.import_module(path)
    return getattr(module, function), tuple(getattr(module, dtypes))


def _default_name(model: str, target: Target, dtype: str) -> str:
    return f"{model}-{dtype}.gguf" if target == "gguf" else f"{model}-{target}"


def _own_side(folder: Path, home: Path) -> tuple[Opened, Trials]:
    """The model as CLLM runs it, and the trials made from its vocabulary."""
    from cllm.export.trials import make_trials
    from cllm.jobs.opening import open_decoder
    from cllm.model.files import load_float_weights

    tokenizer = Tokenizer.load(folder)
    # Packed matrices too are read in float32: so they are written, and so they are compared.
    spec, weights = load_float_weights(folder)
    decoder, _ = open_decoder(spec, {**weights}, home)
    # What is special in a tokeniser from elsewhere is so to other programs, wherever it stands.
    special = special_tokens(tokenizer.backend) if tokenizer.about else ()
    trials = make_trials(
        tokenizer.spellings,
        context=decoder.context,
        eos_id=tokenizer.eos_id,
        special=list(special),
    )
    return OwnModel(decoder, tokenizer), trials


def _difference(verdict: Verdict) -> CllmError:
    program = f"{verdict.program} {verdict.version}"
    failed = (check for check in verdict.checks if not check.passed)
    found = "\n".join(f"{check.what}: {check.result}" for check in failed)
    hint = f"Nothing was left in place. It may be that {program} reads this kind differently."
    return CllmError(f"the export is not the same model in {program}\n{found}", hint=hint)


def _finish_folder(place: Path, folder: Path, model: str, target: Target, verdict: Verdict) -> None:
    """Add the card with the verdict, and what tells that this is an export."""
    from cllm.export.verdict import section, with_section

    record = verdict.to_json()
    if (place / _CARD).is_file():
        card = (place / _CARD).read_text(encoding="utf-8")
    else:
        card = _card_of(folder, model)
        card = re.sub(r"(?m)^library_name: .*$", f"library_name: {target}", card, count=1)
        card = with_section(card, "").rstrip() + f"\n\n## Use\n\n{_USE[target]}\n"
    write_atomic(place / _CARD, with_section(card, section([record])))
    write_json(place / RECORD, {"model": model, "verdict": record})


def _card_of(folder: Path, model: str) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (folder / _CARD).read_text(encoding="utf-8")
    return f"# {model}\n"


def _remember(folder: Path, verdict: Verdict, tell: Notice) -> None:
    """Keep the verdict in the model's own folder, which is exchanged as a whole."""
    from cllm.export.verdict import section, stored_records, with_section

    record = verdict.to_json()
    key = (record["target"], record["dtype"])
    training = read_training(folder)
    earlier = stored_records(training.get("exports"))
    others = [entry for entry in earlier if (entry["target"], entry["dtype"]) != key]
    training["exports"] = [*others, record]
    card = with_section(_card_of(folder, folder.name), section(training["exports"]))
    folder, mode = folder.resolve(), stat.S_IMODE(folder.stat().st_mode)
    try:
        with write_folder(folder, replace=True) as fresh:
            for path in folder.rglob("*"):
                name = path.relative_to(folder)
                if path.is_dir():
                    (fresh / name).mkdir(parents=True, exist_ok=True)
                elif name.as_posix() not in (_CARD, TRAINING, MANIFEST):
                    (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                    _link(path, fresh / name)
            write_json(fresh / TRAINING, training)
            write_atomic(fresh / _CARD, card)
        folder.chmod(mode)
    except StorageError as error:
        tell(f"The verdict is not kept in the model's own card: {error}")


def _link(source: Path, target: Path) -> None:
    """The same file under a second name; a copy where the disk can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
