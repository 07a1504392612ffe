"""Import, export and quantise from a page or program: each in a process of its own."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cllm.errors import NotFoundError, SettingsError
from cllm.files import storage_errors, temporary_prefix
from cllm.jobs.child_process import run_command
from cllm.jobs.model_service import replacing
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.quantise.recipe import Bits, Method

Target = Literal["hf", "gguf", "onnx", "numpy"]

HOUR_S = 3600.0
_DTYPE = re.compile(r"[a-z0-9_]{1,16}")


def import_model(
    workspace: Workspace,
    source: Path,
    *,
    name: str | None = None,
    overwrite: bool = False,
    timeout_s: float = HOUR_S,
) -> dict[str, Any]:
    """Take in a Hugging Face folder or a GGUF file as `name`; returns `ImportResult`'s fields.

    What it replaces goes to the trash. Raises: NotFoundError, ExistsError, InvalidNameError
    before any work, InputError for what can't be imported.
    """
    if not source.exists():
        raise NotFoundError("there is no such file or folder", where=source)
    name = name or workspace.models.free_name(source.stem)
    with replacing(workspace, name, overwrite=overwrite):
        arguments = ["import", str(source.absolute()), "--name", name, "--json", "--quiet"]
        return run_command(arguments, home=workspace.home, timeout_s=timeout_s)


def export_model(
    workspace: Workspace,
    name: str,
    to: Target,
    *,
    dtype: str | None = None,
    timeout_s: float = HOUR_S,
) -> dict[str, Any]:
    """Write a model for another program below `CLLM_HOME/exports`, compared with that program.

    Returns `ExportResult`'s fields, and as `file` the name of what can be downloaded (a folder
    as a zip file), for `export_path`. Raises: NotFoundError, SettingsError, InputError.
    """
    workspace.models.path(name)
    if dtype is not None and _DTYPE.fullmatch(dtype) is None:
        raise SettingsError(f"{dtype!r} is no number format", where="--dtype")
    root = exports_folder(workspace)
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{to}" + (f"-{dtype}" if dtype else "")
    output = root / (f"{stem}.gguf" if to == "gguf" else stem)
    arguments = ["export", name, "--to", to, "--output", str(output), "--overwrite"]
    arguments += ["--dtype", dtype] if dtype else []
    made = run_command([*arguments, "--json", "--quiet"], home=workspace.home, timeout_s=timeout_s)
    file = output if output.is_file() else _zipped(output)
    return made | {"file": file.name}


def quantise_model(
    workspace: Workspace,
    name: str,
    *,
    bits: Bits = 4,
    method: Method | None = None,
    new_name: str | None = None,
    overwrite: bool = False,
    timeout_s: float = HOUR_S,
) -> dict[str, Any]:
    """Make a smaller model of one; returns `QuantiseResult`'s fields, before and after.

    What it replaces goes to the trash. Raises: NotFoundError, ExistsError, InvalidNameError,
    SettingsError before any work, InputError.
    """
    from cllm.jobs.quantise import QuantiseRequest, default_name

    workspace.models.path(name)
    request = QuantiseRequest(bits=bits, method=method)
    request.check()
    target = new_name or default_name(name, request)
    if target == name:
        raise SettingsError("a model can't be replaced by what is made of it", where="name")
    arguments = ["quantize", name, "--bits", str(bits), "--name", target, "--json", "--quiet"]
    arguments += ["--method", method] if method else []
    with replacing(workspace, target, overwrite=overwrite):
        return run_command(arguments, home=workspace.home, timeout_s=timeout_s)


def exports_folder(workspace: Workspace) -> Path:
    """Where exports made for a download lie."""
    return workspace.home / "exports"


def export_path(workspace: Workspace, file: str) -> Path:
    """The exported file of that name. Raises: NotFoundError."""
    root = exports_folder(workspace)
    files = [path for path in root.iterdir() if path.is_file()] if root.is_dir() else []
    for path in files:
        if path.name == file and not file.startswith("."):
            return path
    raise NotFoundError(f"there is no export {file!r}", hint="Export the model again.")


def _zipped(folder: Path) -> Path:
    """The folder as one file beside it; weights do not get smaller by packing."""
    target = folder.with_name(folder.name + ".zip")
    with storage_errors(target):
        handle, name = tempfile.mkstemp(prefix=temporary_prefix(target.name), dir=target.parent)
        fresh = Path(name)
        try:
            with (
                os.fdopen(handle, "wb") as file,
                zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
            ):
                for path in sorted(folder.rglob("*")):
                    if path.is_file():
                        archive.write(path, Path(folder.name) / path.relative_to(folder))
            fresh.replace(target)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    return target
