"""Write `requirements.lock`: what `pyproject.toml` needs, at the versions installed here.

What takes minutes to install (the group "peers") goes to `requirements-peers.lock`.

To take up a newer release: `.venv/bin/pip install 'NAME==VERSION'`, `make test`, `make lock`.
Only packages that something needs are written, each in the first group that needs it.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
HEADER = """\
# Every package at one version. Made by `make lock`; installed with --no-deps.
"""


def closure(wanted: list[str], found: dict[str, str]) -> dict[str, str]:
    """Add to `found` (name → version) all that `wanted` needs; return what was added."""
    added: dict[str, str] = {}
    queue = [(Requirement(text), "") for text in wanted]
    done: set[tuple[str, str]] = set()
    while queue:
        requirement, extra = queue.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        if name == "cllm":
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} is needed but not installed: pip install it first") from None
        if name not in found:
            # "2.13.0+cpu" is a local build of 2.13.0; the lock names the release.
            added[name] = found[name] = package.version.partition("+")[0]
        for wanted_extra in {"", *requirement.extras}:
            if (name, wanted_extra) not in done:
                done.add((name, wanted_extra))
                queue += [(Requirement(text), wanted_extra) for text in package.requires or []]
    return added


def main() -> None:
    """Write the lock, one block a group."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = {"runtime": project["project"]["dependencies"]}
    groups |= project["project"]["optional-dependencies"]
    groups |= project["dependency-groups"]
    found: dict[str, str] = {}
    texts = {"requirements.lock": HEADER, "requirements-peers.lock": HEADER}
    # Last, so that what others need too is not theirs.
    for group in sorted(groups, key=lambda group: group == "peers"):
        added = closure(groups[group], found)
        if added:
            lines = (f"{name}=={version}\n" for name, version in sorted(added.items()))
            file = "requirements-peers.lock" if group == "peers" else "requirements.lock"
            texts[file] += f"\n# {group}\n" + "".join(lines)
    for file, text in texts.items():
        (ROOT / file).write_text(text, encoding="utf-8")
    print(f"{', '.join(texts)}: {len(found)} packages")


if __name__ == "__main__":
    main()
