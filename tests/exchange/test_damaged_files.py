"""Files that lie: whatever stands in them, an error of ours comes out, and memory stays small."""

import contextlib
import json
import os
import random
import resource
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_folders import make_model
from safetensors.numpy import load_file, save_file

from cllm.errors import CllmError, InputError, IntegrityError
from cllm.export.gguf_format import from_gguf_name, to_gguf_name
from cllm.export.gguf_reader import read_gguf_header
from cllm.export.gguf_writer import write_gguf
from cllm.export.safetensors_reader import read_safetensors_header
from cllm.jobs.import_model import open_foreign
from cllm.model.files import foreign_names
from cllm.text.tokenizers import Tokenizer

# The files below have half a megabyte; what is made of them is far less than this.
MOST_BYTES = 200 << 20
ODD = [
    None, True, -1, 0, 1, 3, 2**31, 2**63, 10**30, -0.0, 0.5, 1e308, float("nan"), float("inf"),
    "", "x", "\ud800", "../../x", [], [1], [[]], {}, {"a": 1}, [None] * 9, "9" * 5000,
]  # fmt: skip
FUZZ = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A valid folder (`model`) and a valid file (`m.gguf`)."""
    root = tmp_path_factory.mktemp("whole")
    make_model(root / "model", shape="llama", kind="bpe")
    for name in ("manifest.json",):
        (root / "model" / name).unlink()
    write_gguf(root / "model", root / "m.gguf", dtype="q8_0")
    return root


def use(path: Path) -> None:
    """All that an import does before it writes."""
    found = open_foreign(path)
    found.read_weights()
    found.tokenizer.decode(found.tokenizer.encode("The fox \u65e5 12"))
    assert len(found.tokenizer.spellings) == found.spec.vocab_size


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Lets errors of ours pass, no other, and watches the memory at its peak."""
    before = peak_bytes()
    with contextlib.suppress(CllmError):
        yield
    assert peak_bytes() - before < MOST_BYTES


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def damage(data: bytes, draw: random.Random, *, within: int) -> bytes:
    """Flip, overwrite, cut, repeat or leave out something, mostly near the beginning."""
    changed = bytearray(data)
    at = draw.randrange(min(within, len(data)))
    kind = draw.randrange(6)
    if kind == 0:
        changed[at] ^= 1 << draw.randrange(8)
    elif kind == 1:
        changed[at] = draw.randrange(256)
    elif kind == 2:
        number = draw.choice([0, 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1, len(data)])
        changed[at : at + 8] = struct.pack("<Q", number)
    elif kind == 3:
        del changed[draw.randrange(len(data)) :]
    elif kind == 4:
        del changed[at : at + draw.randrange(1, 64)]
    else:
        changed[at:at] = changed[at : at + draw.randrange(1, 64)]
    return bytes(changed)


def test_the_undamaged_files_are_read(whole):
    use(whole / "model")
    use(whole / "m.gguf")


ROUNDS = [150, pytest.param(800, marks=pytest.mark.long)]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_damaged_gguf(whole, tmp_path, rounds):
    data = (whole / "m.gguf").read_bytes()
    draw = random.Random(rounds)
    within = read_gguf_header(whole / "m.gguf").tensors["token_embd.weight"].start
    for _ in range(rounds):
        (tmp_path / "m.gguf").write_bytes(damage(data, draw, within=within))
        with bounded():
            use(tmp_path / "m.gguf")


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize(
    ("name", "within"),
    [("model.safetensors", 3000), ("config.json", 2000), ("tokenizer.json", 30_000)],
)
def test_damaged_files_of_a_folder(whole, tmp_path, name, within, rounds):
    shutil.copytree(whole / "model", tmp_path / "model")
    data = (whole / "model" / name).read_bytes()
    draw = random.Random(f"{name} {rounds}")
    for _ in range(rounds):
        (tmp_path / "model" / name).write_bytes(damage(data, draw, within=within))
        with bounded():
            use(tmp_path / "model")


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The way to every value within a JSON value, of a long list or table to its first ones."""
    yield path
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in list(inner)[:12]:
            yield from places(one, (*path, key))


def replaced(value: Any, path: tuple, new: Any) -> Any:
    if not path:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = replaced(value[path[0]], path[1:], new)
    return copied


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json",
                                  "generation_config.json"])  # fmt: skip
@FUZZ
@given(data=st.data())
def test_odd_values_in_json(whole, tmp_path, name, data):
    shutil.copytree(whole / "model", tmp_path / "model", dirs_exist_ok=True)
    record = json.loads((whole / "model" / name).read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(places(record))))
        record = replaced(record, path, data.draw(st.sampled_from(ODD)))
    (tmp_path / "model" / name).write_text(json.dumps(record))
    with bounded():
        use(tmp_path / "model")


@FUZZ
@given(header=st.binary(max_size=200), length=st.integers(0, 2**64 - 1), right=st.booleans())
def test_any_bytes_as_safetensors(tmp_path, header, length, right):
    prefix = (len(header) if right else length).to_bytes(8, "little")
    (tmp_path / "x.safetensors").write_bytes(prefix + header)
    with bounded():
        read_safetensors_header(tmp_path / "x.safetensors")


@FUZZ
@given(rest=st.binary(max_size=200), counts=st.tuples(*[st.integers(0, 2**64 - 1)] * 2))
def test_any_bytes_as_gguf(tmp_path, rest, counts):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *counts) + rest)
    with bounded():
        read_gguf_header(tmp_path / "x.gguf")


def write_safetensors(path: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"a": ("F32", [2**40, 2**20], [0, 2**62])}, "would end|tensors have"),
        ({"a": ("F32", [4], [0, 12])}, "instead of"),
        ({"a": ("F32", [4], [16, 0])}, "instead of"),
        ({"a": ("F32", [4], [-16, 0])}, "damaged"),
        ({"a": ("F32", [4], [0, 16]), "b": ("F32", [4], [8, 24])}, "overlap"),
        ({"a": ("F32", [4], [0, 16]), "b": ("F32", [4], [16, 32])}, "would end"),
        ({"a": ("F32", [2], [0, 8])}, "tensors have"),
        ({"a": ("F32", [True], [0, 4])}, "damaged"),
        ({"a": ("F32", [1] * 9, [0, 4])}, "damaged"),
    ],
)
def test_safetensors_whose_claims_do_not_fit_are_refused(entries, named, tmp_path):
    header = {
        name: {"dtype": kind, "shape": shape, "data_offsets": offsets}
        for name, (kind, shape, offsets) in entries.items()
    }
    write_safetensors(tmp_path / "x.safetensors", header, bytes(24))
    with pytest.raises(IntegrityError, match=named) as caught:
        read_safetensors_header(tmp_path / "x.safetensors")
    assert caught.value.where == str(tmp_path / "x.safetensors")


def test_integers_and_unknown_kinds_are_refused_by_name(tmp_path):
    save_file({"a": np.zeros(4, np.int8)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="I8"):
        read_safetensors_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(value, whole, tmp_path):
    shutil.copytree(whole / "model", tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.weight"][:] = value
    save_file(tensors, path)
    with pytest.raises(IntegrityError, match=r"model\.layers\.1\.mlp\.up_proj") as caught:
        use(tmp_path / "model")
    assert caught.value.where == str(path)


def test_a_sparse_terabyte_is_refused_at_once(tmp_path, whole):
    """The file has the size that its header claims, and takes no space."""
    shutil.copytree(whole / "model", tmp_path / "model")
    rows = 2**40 // (64 * 4)
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": rows // 64}))
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    header, at = {}, 0
    for name, value in tensors.items():
        shape = [rows // 64, 64] if name == "model.embed_tokens.weight" else list(value.shape)
        end = at + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    write_safetensors(tmp_path / "model" / "model.safetensors", header, b"")
    size = (tmp_path / "model" / "model.safetensors").stat().st_size
    os.truncate(tmp_path / "model" / "model.safetensors", size + at)
    with bounded(), pytest.raises(InputError, match="this machine has"):
        use(tmp_path / "model")


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", 10**12), ("num_hidden_layers", 4000), ("vocab_size", 2**27),
     ("hidden_size", 2**27), ("max_position_embeddings", 10**12), ("head_dim", 31),
     ("num_key_value_heads", 3), ("rms_norm_eps", 0), ("rope_theta", -1.0),
     ("tie_word_embeddings", "yes"), ("vocab_size", True)],
)  # fmt: skip
def test_a_configuration_that_claims_too_much_is_refused(key, value, whole, tmp_path):
    shutil.copytree(whole / "model", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    path.write_text(json.dumps(config | {key: value}))
    with pytest.raises(IntegrityError):
        use(tmp_path / "model")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(name, whole, tmp_path):
    shutil.copytree(whole / "model", tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(CllmError, match=name):
        use(tmp_path / "model")


def test_what_is_no_file_is_not_opened(whole, tmp_path):
    """Reading a pipe would wait for ever."""
    shutil.copytree(whole / "model", tmp_path / "model")
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        path = tmp_path / "model" / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        with pytest.raises(CllmError):
            use(tmp_path / "model")
        path.unlink()
        if (whole / "model" / name).exists():
            shutil.copy(whole / "model" / name, path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(IntegrityError, match="not a file"):
        use(tmp_path / "pipe.gguf")


def test_deeply_nested_json_is_refused(whole, tmp_path):
    shutil.copytree(whole / "model", tmp_path / "model")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        before = (tmp_path / "model" / name).read_bytes()
        (tmp_path / "model" / name).write_text('{"a":' * 100_000)
        with pytest.raises(IntegrityError):
            use(tmp_path / "model")
        (tmp_path / "model" / name).write_bytes(before)


def test_padding_that_a_tokeniser_asks_for_is_not_done(whole, tmp_path):
    """Each text padded to a billion tokens would fill the memory."""
    shutil.copytree(whole / "model", tmp_path / "model")
    path = tmp_path / "model" / "tokenizer.json"
    padding = {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None,
               "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}  # fmt: skip
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding": padding}))
    use(tmp_path / "model")


def test_names_of_tensors_go_both_ways(whole):
    spec = open_foreign(whole / "model").spec
    for name in spec.parameters():
        for foreign in foreign_names(name):
            assert from_gguf_name(to_gguf_name(foreign)) == foreign
    assert from_gguf_name("blk.x.attn_q.weight") == "blk.x.attn_q.weight"
    assert Tokenizer.load(whole / "model").kind == "bpe"
