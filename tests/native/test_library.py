"""Finding, compiling and loading: the right library or a clear reason why there is none."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cllm.errors import NativeError, SettingsError
from cllm.model.spec import ModelSpec
from cllm.native import Engine, Library, NgramPart, Parts, build, find_library, load_library
from cllm.native.processor import linux_features, mac_features, runnable_variants

EVERY_PART = Parts(NgramPart((2, 3), 2, (101, 103, 107, 109), 20), (1, 3), True, "forget", (), 0)


@pytest.fixture(scope="session")
def each_variant(library, native_cache) -> dict[str, Library]:
    """Every variant that runs here, compiled where it was not installed."""
    with pytest.MonkeyPatch.context() as patch:
        found = {}
        for variant in runnable_variants():
            patch.setenv("CLLM_NATIVE", variant)
            found[variant] = load_library(native_cache)
    return found


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """An empty cache, nothing installed, and no compiler."""
    monkeypatch.setattr(build, "BUILT", tmp_path / "built")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CLLM_NATIVE", raising=False)
    return tmp_path / "cache"


def put(library: Library, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(library.path, folder))


@pytest.mark.parametrize("parts", [Parts(), EVERY_PART])
def test_every_variant_computes_the_same(each_variant, draw, parts):
    spec = ModelSpec(65, 48, 2, 4, 2, 12, 100, 40)
    parameters, batch = draw.parameters(spec, parts=parts), draw.batch(spec, 4, 40)
    answers = {}
    for variant, library in each_variant.items():
        assert library.variant == variant
        engine = Engine(library, spec, parts, threads=2, is_bfloat16=False)
        engine.parameters[:] = parameters
        engine.table[:] = 0.1
        answers[variant] = engine.gradient(*batch, weight=0.01), engine.gradients
    nats, gradients = answers["generic"]
    for other_nats, other in answers.values():
        assert other_nats == pytest.approx(nats, rel=1e-5)
        assert np.linalg.norm(other - gradients) < 1e-5 * np.linalg.norm(gradients)


def test_the_best_variant_is_taken(library, bare, each_variant):
    for one in each_variant.values():
        put(one, bare)
    loaded = load_library(bare)
    assert loaded.variant == runnable_variants()[0]
    assert find_library(bare) == loaded.path


def test_without_a_compiler_a_lesser_one_will_do(bare, each_variant):
    path = put(each_variant["generic"], bare)
    assert find_library(bare) == path
    assert load_library(bare).path == path


def test_what_is_installed_comes_before_the_cache(library, bare):
    installed = put(library, build.BUILT)
    put(library, bare)
    assert load_library(bare).path == installed


def test_no_library_and_no_compiler_is_one_clear_line(bare):
    assert find_library(bare) is None
    with pytest.raises(NativeError, match=r"no C\+\+ compiler was found") as caught:
        load_library(bare)
    assert "\n" not in caught.value.message
    assert "g++" in caught.value.hint


def test_a_compiler_that_fails_is_quoted(bare, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'x.h:1: error: no such thing' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", f"{broken} -flag")
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    with pytest.raises(NativeError, match="error: no such thing"):
        load_library(bare)
    assert list(bare.glob("*")) == []


def test_one_made_from_other_sources_is_not_loaded(library, bare, monkeypatch):
    path = put(library, bare)
    monkeypatch.setattr(build, "stamp", lambda variant: "0" * 12)
    with pytest.raises(NativeError):
        load_library(bare)
    # Nor when its name says that it is the right one.
    digest = path.stem.rpartition("-")[2]
    path.rename(bare / f"{library.variant}-{'0' * 12}-{digest}.so")
    with pytest.raises(NativeError, match="other sources"):
        load_library(bare)


@pytest.mark.parametrize("num_bytes", [0, 1000, 100_000])
def test_a_truncated_one_is_never_loaded(library, bare, num_bytes):
    os.truncate(put(library, bare), num_bytes)
    assert find_library(bare) is None
    with pytest.raises(NativeError, match="is damaged"):
        load_library(bare)


def fake_compiler(folder: Path, output: Path) -> str:
    """A command that takes compiler's flags and makes a copy of `output`."""
    script = folder / "compiler"
    script.write_text(f'#!/bin/sh\nfor last; do :; done\n/bin/cp "{output}" "$last"\n')
    script.chmod(0o755)
    return str(script)


def test_a_damaged_one_is_compiled_again(each_variant, bare, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, each_variant["generic"].path))
    monkeypatch.setenv("CLLM_NATIVE", "generic")
    os.truncate(put(each_variant["generic"], build.BUILT), 5000)
    assert find_library(bare) is None
    loaded = load_library(bare)
    assert loaded.path.parent == bare
    assert find_library(bare) == loaded.path
    assert [path.name for path in bare.iterdir()] == [loaded.path.name]


@pytest.mark.long
def test_the_sources_compile(bare, draw, monkeypatch):
    monkeypatch.undo()
    if build.compiler() is None:
        pytest.skip("no C++ compiler")
    for variant in runnable_variants():
        loaded = Library(build.build(variant, bare))
        assert loaded.variant == variant
        engine = Engine(
            loaded, ModelSpec(5, 4, 1, 1, 1, 2, 4, 4), threads=1, is_bfloat16=loaded.has_bfloat16
        )
        # All logits are equal: each of five tokens is as likely as the others.
        ids = np.zeros((1, 3), np.int32)
        assert engine.score(ids, ids) == pytest.approx(3 * np.log(5))


def test_a_file_that_is_no_library_is_not_fatal(bare):
    variant = runnable_variants()[0]
    bare.mkdir()
    path = bare / "draft"
    path.write_bytes(b"no library")
    name = f"{variant}-{build.stamp(variant)}-{build.content_digest(path)}.so"
    path.rename(bare / name)
    with pytest.raises(NativeError, match=name):
        load_library(bare)


def test_it_can_be_switched_off(library, bare, monkeypatch):
    put(library, bare)
    monkeypatch.setenv("CLLM_NATIVE", "off")
    assert find_library(bare) is None
    with pytest.raises(NativeError, match="switched off"):
        load_library(bare)


def test_a_variant_can_be_chosen(each_variant, bare, monkeypatch):
    for one in each_variant.values():
        put(one, bare)
    monkeypatch.setenv("CLLM_NATIVE", "generic")
    assert load_library(bare).variant == "generic"


def test_an_unknown_variant_is_an_error_that_names_the_others(bare, monkeypatch):
    monkeypatch.setenv("CLLM_NATIVE", "fastest")
    for ask in (load_library, find_library):
        with pytest.raises(SettingsError, match="fastest") as caught:
            ask(bare)
        assert caught.value.where == "CLLM_NATIVE"
        assert "off" in caught.value.hint
        assert "generic" in caught.value.hint


X86 = "cx16 popcnt ssse3 sse4_1 sse4_2 avx avx2 bmi1 bmi2 f16c fma movbe abm"
X86_512 = f"{X86} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (
            [f"{X86_512} avx512_bf16 avx512_vnni avx512vbmi"] * 2,
            ["avx512bf16", "avx512", "avx2", "generic"],
        ),
        ([f"{X86_512} avx512_bf16 avx512_vnni"] * 2, ["avx512", "avx2", "generic"]),
        ([X86_512, X86], ["avx2", "generic"]),
        ([X86_512.replace("fma ", "")], ["generic"]),
        ([], ["generic"]),
    ],
)
def test_a_processor_runs_only_what_all_its_cores_have(tmp_path, monkeypatch, cores, expected):
    path = tmp_path / "cpuinfo"
    path.write_text("\n\n".join(f"processor\t: 0\nflags\t\t: fpu {core}" for core in cores))
    monkeypatch.setattr("cllm.native.processor.features", lambda: linux_features(path))
    monkeypatch.setattr(build, "variants", lambda: build._X86)
    monkeypatch.setattr("cllm.native.processor.variants", build.variants)
    assert runnable_variants() == expected


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("hw.optional.avx2_0: 1\nhw.optional.avx512f: 0", ["avx2", "generic"]),
        ("hw.optional.avx2_0: 0", ["generic"]),
        ("hw.optional.neon: 1", ["generic"]),
    ],
)
def test_a_mac_runs_what_it_lists(monkeypatch, printed, expected):
    found = mac_features(["printf", f"{printed}\n"])
    monkeypatch.setattr("cllm.native.processor.features", lambda: found)
    monkeypatch.setattr("cllm.native.processor.variants", lambda: build._X86)
    assert runnable_variants() == expected


def test_the_folder_is_brought_up_to_date(bare, tmp_path, monkeypatch):
    (tmp_path / "output").write_bytes(b"compiled")
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, tmp_path / "output"))
    bare.mkdir()
    (bare / "generic-000000000000-0000000000000000.so").write_bytes(b"stale")
    made = build.build_all(bare)
    assert set(made) == set(build.variants())
    assert set(bare.iterdir()) == set(made.values())
    monkeypatch.setenv("CXX", "/bin/false")
    assert build.build_all(bare) == made


def test_what_can_not_be_compiled_is_said(bare):
    for result in build.build_all(bare).values():
        assert str(result) == "no C++ compiler was found"
