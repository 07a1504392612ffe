"""The reference, written from the code at every build: the API, the commands, the settings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import cllm
from cllm.config import GenerateSettings, Settings, dotted_fields, environment_name

SOURCE = Path(cllm.__file__).parent
# Lines of a docstring that stand apart: what it raises, where it comes from, how sure it is.
FIELD = re.compile(r"^(Raises|Source|Status|Cost|Shapes): ?", re.MULTILINE)


def write(folder: Path) -> None:
    """Write every generated page below `folder`; pages that did not change are not touched."""
    pages = dict(api_pages())
    pages["api/index.md"] = api_index(sorted(pages))
    pages["commands.md"] = commands_page()
    pages["settings.md"] = settings_page()
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def api_pages() -> Iterator[tuple[str, str]]:
    """One page for each module that has something public to say."""
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if not any(part.startswith("_") for part in name.split(".")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            yield f"api/{name}.md", module_page(name, tree)


def api_index(pages: list[str]) -> str:
    """The table of contents of the API pages."""
    names = "\n".join(page.removeprefix("api/").removesuffix(".md") for page in pages)
    return (
        "# Python API\n\nWhat programs should use is what `import cllm` offers, on the first "
        "page. The rooms below it are described for those who read or extend the code.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n"
    )


def module_page(name: str, tree: ast.Module) -> str:
    """A module's docstring, then its public classes and functions in the file's order."""
    text = f"# {name}\n\n{docstring(tree)}\n\n````````{{py:module}} {name}\n````````\n"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            text += "\n" + directive("py:function", signature(node), docstring(node))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            text += "\n" + class_directive(node)
    return text


def class_directive(node: ast.ClassDef) -> str:
    """A class with its fields, properties and public methods."""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    body = f"*Is a:* `{bases}`\n\n" if bases else ""
    body += docstring(node) + "\n"
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            if not item.target.id.startswith("_") and item.target.id != "model_config":
                kind = ast.unparse(item.annotation)
                body += "\n" + directive("py:attribute", item.target.id, f":type: {kind}")
        elif isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            body += "\n" + method_directive(item)
    constructor = next(
        (x for x in node.body if isinstance(x, ast.FunctionDef) and x.name == "__init__"), None
    )
    head = node.name + (signature(constructor, is_method=True)[8:] if constructor else "")
    return directive("py:class", head, body, fence="::::::")


def method_directive(node: ast.FunctionDef) -> str:
    """A method, or a property as an attribute."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    if decorators & {"property", "cached_property"}:
        kind = ast.unparse(node.returns) if node.returns else "object"
        return directive("py:property", node.name, f":type: {kind}\n\n{docstring(node)}")
    is_static = "staticmethod" in decorators
    return directive("py:method", signature(node, is_method=not is_static), docstring(node))


def directive(kind: str, argument: str, body: str, *, fence: str = ":::::") -> str:
    """A MyST directive, its body still Markdown."""
    return f"{fence}{{{kind}}} {argument}\n{body.strip()}\n{fence}\n"


def signature(node: ast.FunctionDef, *, is_method: bool = False) -> str:
    """`name(parameters) -> result` on one line, without `self`."""
    parameters = ast.unparse(node.args)
    if is_method:
        parameters = re.sub(r"^(self|cls)(, (/, )?|$)", "", parameters)
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({parameters}){result}"


def docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """A docstring as Markdown, what it raises and its source each on a line of its own."""
    text = ast.get_docstring(node) or ""
    return "\n" + FIELD.sub(r"\n**\1:** ", text)


def commands_page() -> str:
    """Every command with its flags, as `--help` shows them."""
    from cllm.cli.main import build_app

    app = build_app()
    text = app.generate_docs(output_format="markdown", flatten_commands=True, heading_level=2)
    return "# Commands\n\n" + text.partition("\n")[2]


def settings_page() -> str:
    """Every setting with its flag, environment twin, default and meaning."""
    text = "# All settings\n"
    for title, schema in (("Training", Settings), ("Generating", GenerateSettings)):
        text += f"\n## {title}\n\n| flag | environment | default | meaning |\n|---|---|---|---|\n"
        text += "".join(settings_row(name, field) for name, field in dotted_fields(schema))
    return text


def settings_row(name: str, field: FieldInfo) -> str:
    """One line of the settings table."""
    extra = field.json_schema_extra
    short = extra.get("short") if isinstance(extra, dict) else None
    flags = f"`--{name}`" + (f", `--{short}`" if short and short != name else "")
    default = "" if field.default in (None, (), PydanticUndefined) else f"`{field.default}`"
    return f"| {flags} | `{environment_name(name)}` | {default} | {field.description} |\n"
