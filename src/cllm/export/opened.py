"""An exported model, opened by the program it was made for; run as a process of its own.

`python -m cllm.export.opened FOLDER` reads `request.json` there and leaves its answer beside it.
Nothing of CLLM computes in that process: what it tells is what the other program found.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from cllm.export.llama_cpp_settings import model_settings

Target = Literal["hf", "gguf", "onnx", "numpy"]
# The module that opens each kind of export, and the package that brings it.
PROGRAMS: dict[Target, tuple[str, str]] = {
    "hf": ("transformers", "transformers"),
    "gguf": ("llama_cpp", "llama-cpp-python"),
    "onnx": ("onnxruntime", "onnxruntime"),
    "numpy": ("numpy", "numpy"),
}
# The largest model that anybody would export here answers within a minute or two.
_MOST_SECONDS = 1800.0
_SHOWN_LINES = 4


@runtime_checkable
class Opened(Protocol):
    """A model that some program has opened."""

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text, nothing added."""

    def logits(self, ids: Sequence[int]) -> Float32[np.ndarray, "T V"]:
        """Scores of what follows each of the tokens."""

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The `count` likeliest tokens, one after the other; none of them ends the text."""


@dataclass(frozen=True, slots=True)
class Trials:
    """What both programs are asked: texts to cut, ids to read, prompts with a length to go on."""

    texts: list[str]
    sequences: list[list[int]]
    prompts: list[tuple[list[int], int]]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a program answered to the trials, in their order."""

    tokens: list[list[int]]
    logits: list[Float32[np.ndarray, "_ _"]]
    greedy: list[list[int]]


class OpeningError(Exception):
    """The other program did not open the file; the message is what it said."""


class ProgramError(Exception):
    """The other program itself can't be loaded here."""


def is_installed(target: Target) -> bool:
    """Whether the program that opens this kind of export is here."""
    return importlib.util.find_spec(PROGRAMS[target][0]) is not None


def version_of(package: str) -> str:
    """The version of an installed package."""
    return importlib.metadata.version(package)


def tokenizing_package(target: Target) -> str:
    """The package that cuts texts for that program: its own, or `tokenizers`."""
    return "tokenizers" if target in ("onnx", "numpy") else PROGRAMS[target][1]


def ask(opened: Opened, trials: Trials) -> Answers:
    """Put the trials to a model."""
    return Answers(
        [opened.tokenize(text) for text in trials.texts],
        [opened.logits(ids) for ids in trials.sequences],
        [opened.greedy(ids, count) for ids, count in trials.prompts],
    )


def ask_other(target: Target, path: Path, trials: Trials) -> Answers:
    """Put the trials to the other program, in a child process.

    Raises: OpeningError, ProgramError.
    """
    with tempfile.TemporaryDirectory(prefix="cllm-export-") as name:
        folder = Path(name)
        request = {
            "target": target,
            "path": str(path.absolute()),
            "texts": trials.texts,
            "sequences": trials.sequences,
            "prompts": trials.prompts,
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        # Nothing is to be fetched from anywhere, and what is shown is not for people.
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "cllm.export.opened", name],
                env={**os.environ, **quiet},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_MOST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise OpeningError(f"no answer within {_MOST_SECONDS:.0f} seconds") from None
        if done.returncode == _NOT_LOADED:
            raise ProgramError(_last_lines(done.stderr))
        if done.returncode != 0:
            raise OpeningError(_last_words(done))
        answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        with np.load(folder / "logits.npz") as file:
            logits = [file[str(place)] for place in range(len(trials.sequences))]
        return Answers(answer["tokens"], logits, answer["greedy"])


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"it crashed ({signal.Signals(-done.returncode).name})"
    return _last_lines(done.stderr) or f"it ended with {done.returncode}"


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_SHOWN_LINES:])


_NOT_LOADED = 7


def _load(name: str) -> Any:
    """A package that may not be here; its types are its own affair."""
    return importlib.import_module(name)


class _Transformers:
    def __init__(self, path: Path) -> None:
        transformers = _load("transformers")
        # In float32 whatever is stored, so that the weights are compared and nothing else.
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype="float32")
        self._model = model.eval()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        # The folder's own settings draw at random, and end at the end of a text.
        self._model.generation_config = transformers.GenerationConfig()

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def logits(self, ids: Sequence[int]) -> Float32[np.ndarray, "T V"]:
        torch = _load("torch")
        with torch.inference_mode():
            return np.asarray(self._model(torch.tensor([list(ids)])).logits[0].numpy())

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        torch = _load("torch")
        rows = torch.tensor([list(ids)])
        mask = torch.ones_like(rows)
        made = self._model.generate(
            rows, attention_mask=mask, max_new_tokens=count, do_sample=False, pad_token_id=0
        )
        return [int(token) for token in made[0, len(ids) :]]


class _LlamaCpp:
    def __init__(self, path: Path) -> None:
        llama_cpp, library = _load("llama_cpp"), _load("llama_cpp.llama_cpp")
        settings = model_settings(library)
        # Its class asks for the defaults, and takes no others.
        library.llama_model_default_params = lambda: settings
        # Keys and values in float32; the default, float16, is coarser than the weights may be.
        float32 = llama_cpp.GGML_TYPE_F32
        self._model = llama_cpp.Llama(
            str(path), n_ctx=0, logits_all=True, type_k=float32, type_v=float32, verbose=False
        )

    def tokenize(self, text: str) -> list[int]:
        return list(self._model.tokenize(text.encode(), add_bos=False, special=False))

    def logits(self, ids: Sequence[int]) -> Float32[np.ndarray, "T V"]:
        self._model.reset()
        self._model.eval(list(ids))
        return np.array(self._model.scores[: len(ids)], np.float32)

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        self._model.reset()
        made = self._model.generate(list(ids), temp=0.0, repeat_penalty=1.0)
        return [int(next(made)) for _ in range(count)]


class _Onnx:
    def __init__(self, path: Path) -> None:
        onnxruntime, tokenizers = _load("onnxruntime"), _load("tokenizers")
        self._session = onnxruntime.InferenceSession(
            str(path / "model.onnx"), providers=["CPUExecutionProvider"]
        )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True
        self._outputs = [output.name for output in self._session.get_outputs()]

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def logits(self, ids: Sequence[int]) -> Float32[np.ndarray, "T V"]:
        # Half at once and the rest with what is remembered of it, so that both ways are tried.
        half = len(ids) // 2
        first, past = self._read(ids[:half], self._empty()) if half else (None, self._empty())
        second, _ = self._read(ids[half:], past)
        return second if first is None else np.concatenate([first, second])

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        made: list[int] = []
        fresh, past = list(ids), self._empty()
        while len(made) < count:
            logits, past = self._read(fresh, past)
            fresh = [int(logits[-1].argmax())]
            made += fresh
        return made

    def _empty(self) -> dict[str, NDArray[Any]]:
        inputs = {entry.name: entry.shape for entry in self._session.get_inputs()}
        return {
            name: np.zeros((1, shape[1], 0, shape[3]), np.float32)
            for name, shape in inputs.items()
            if name.startswith("past_key_values.")
        }

    def _read(
        self, ids: Sequence[int], past: dict[str, NDArray[Any]]
    ) -> tuple[Float32[np.ndarray, "T V"], dict[str, NDArray[Any]]]:
        start = next(iter(past.values())).shape[2]
        end = start + len(ids)
        feeds = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(start, end)[None],
        }
        values = self._session.run(self._outputs, feeds | past)
        found = dict(zip(self._outputs, values, strict=True))
        logits = found.pop("logits")[0]
        return logits, {n.replace("present", "past_key_values"): v for n, v in found.items()}


class _Numpy:
    def __init__(self, path: Path) -> None:
        tokenizers = _load("tokenizers")
        # Reached as a person would: by the file's place, with nothing of CLLM's.
        spec = importlib.util.spec_from_file_location("exported_model", path / "model.py")
        if spec is None or spec.loader is None:
            raise FileNotFoundError(path / "model.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._model = module.Model(path)
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def logits(self, ids: Sequence[int]) -> Float32[np.ndarray, "T V"]:
        self._model.forget()
        half = len(ids) // 2
        parts = [self._model.read(list(part)) for part in (ids[:half], ids[half:]) if len(part)]
        return np.concatenate(parts)

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        return list(self._model.write(list(ids), count))


_OPENERS: dict[Target, Any] = {
    "hf": _Transformers,
    "gguf": _LlamaCpp,
    "onnx": _Onnx,
    "numpy": _Numpy,
}


def main(folder: Path) -> int:
    """Answer the request in `folder`; 0, or 7 where the other program can't be loaded."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    target: Target = request["target"]
    try:
        _load(PROGRAMS[target][0])
    except (ImportError, OSError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return _NOT_LOADED
    prompts = [(ids, count) for ids, count in request["prompts"]]
    opened = _OPENERS[target](Path(request["path"]))
    answers = ask(opened, Trials(request["texts"], request["sequences"], prompts))
    logits = {str(place): value for place, value in enumerate(answers.logits)}
    with (folder / "logits.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **logits)
    answer = {"tokens": answers.tokens, "greedy": answers.greedy}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
