"""Compiles the engine (src/cllm/native) whenever the package is built or installed.

Without a C++ compiler the package is built all the same: what is missing is then compiled when
it is first needed, or torch does the work.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

NATIVE = Path("src/cllm/native")


class CompileHook(BuildHookInterface[Any]):
    """Fills `src/cllm/native/built`; takes no time where nothing changed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile for every processor, and give the wheel the tag of this kind of machine."""
        del version  # both of them, "standard" and "editable", need it
        if self.target_name != "wheel":
            return
        results = load_build_module(Path(self.root)).build_all()
        made = [result for result in results.values() if isinstance(result, Path)]
        for variant, result in results.items():
            if not isinstance(result, Path):
                self.app.display_warning(f"The engine was not compiled for {variant}: {result}")
        if made:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform_tag()}"
            build_data["artifacts"] += [f"{NATIVE.as_posix()}/built/{path.name}" for path in made]


def load_build_module(root: Path) -> ModuleType:
    """`cllm.native.build`, from its file: the package can't be imported yet."""
    spec = importlib.util.spec_from_file_location("build", root / NATIVE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def platform_tag() -> str:
    """Name this kind of machine; a manylinux tag would promise older systems than were tried."""
    tags = (tag.platform for tag in sys_tags())
    return next(tag for tag in tags if not tag.startswith(("manylinux", "musllinux")))
