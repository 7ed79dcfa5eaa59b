"""What the site has beyond its Markdown: tables made of the code, drawings as SVG, pages from elsewhere in the house.

MkDocs calls the `on_*` functions. A line `<!-- generated: NAME -->` in a page stands for what `GENERATED[NAME]` writes.
"""

import html
import inspect
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"changelog.md": "CHANGELOG.md", "model-card.md": "models/shipped/MODEL_CARD.md"}
GRAPHS = ("ingest", "contextual_rag", "art", "routed", "simrag", "evaluate")
_MARK = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\((\.\./[^)\s]+)\)")
_BOUNDS = {"ge": "from", "gt": "over", "le": "to", "lt": "under"}


def on_config(config: Any) -> Any:
    """Draw Mermaid blocks at build time: the pages need no script, and no network."""
    config.mdx_configs["pymdownx.superfences"] = {
        "custom_fences": [{"name": "mermaid", "class": "mermaid", "format": drawing}]
    }
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie elsewhere in the house, and the notebooks with their outputs."""
    from mkdocs.structure.files import File

    for page, path in ELSEWHERE.items():
        text = (ROOT / path).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    for path in notebooks():
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=as_page(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what is generated; links to files outside of the pages, good on a code host, become their words."""
    written = _MARK.sub(lambda found: GENERATED[found[1]](), markdown)
    here = (ROOT / "docs" / page.file.src_uri).parent

    def inside(found: re.Match[str]) -> str:
        target = (here / found[2].partition("#")[0]).resolve()
        return found[1] if target.exists() and ROOT / "docs" not in (target, *target.parents) else found[0]

    return _LINK.sub(inside, written)


def drawing(source: str, *_: Any, **__: Any) -> str:
    """A Mermaid drawing as SVG; its colours are the page's."""
    import mmdr

    source = re.sub(r"^\s*classDef .*$", "", source, flags=re.MULTILINE)  # the colours of the style sheet count
    svg = mmdr.render(source.replace("config:\n", "config:\n  look: classic\n")).svg()
    svg = re.sub(r"<style>.*?</style>|<defs>.*?</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' data-[\w-]+="[^"]*"', "", svg)
    mark = f"drawing-{zlib.crc32(source.encode()):x}"
    return f'<div class="drawing">{svg.replace("merman", mark)}</div>'


def settings_table() -> str:
    """Every setting: what it does, its values, its default, its environment variable."""
    from artrag.settings import Settings

    lines = ["| setting | values and default | what it does |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        bounds = [f"{_BOUNDS[k]} {getattr(m, k)}" for m in field.metadata for k in _BOUNDS if hasattr(m, k)]
        values = f"{_type(field.annotation)} {' '.join(bounds)}".strip()
        default = field.get_default(call_default_factory=True)
        about = _cell(field.description or "")
        lines.append(f"| `{name}`<br>`ARTRAG_{name.upper()}` | {_cell(values)}; {_code(default)} | {about} |")
    return "\n".join(lines)


def _type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    parts = [part for part in get_args(kind) if part is not type(None)]
    if parts and get_origin(kind) is not dict:
        return _type(parts[0])
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(kind, "JSON object")


def _code(value: Any) -> str:
    return "none" if value is None else f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def command_line() -> str:
    """Every command with its arguments and options, as the command line itself knows them."""
    import typer

    from artrag.interfaces.cli import app

    return "\n\n".join(_command(words, command) for words, command in commands(typer.main.get_command(app)))


def commands(command: Any, words: tuple[str, ...] = ("artrag",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words and the command of everything that can be run."""
    below = getattr(command, "commands", None)
    if below is None:
        yield words, command
        return
    for name in sorted(below):
        yield from commands(below[name], (*words, name))


def _command(words: tuple[str, ...], command: Any) -> str:
    kinds = {name: p.annotation for name, p in inspect.signature(command.callback, eval_str=True).parameters.items()}
    usage, rows = list(words), []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        is_option = parameter.param_type_name == "option"
        name = _names(parameter, kinds[parameter.name]) if is_option else parameter.name.upper()
        if not is_option:
            usage.append(f"{name}..." if parameter.nargs == -1 else name)
        elif parameter.required:
            usage.append(f"{parameter.opts[0]} {parameter.metavar or parameter.name.upper()}")
        about = _cell(getattr(parameter, "help", None) or "")
        rows.append(f"| `{name}` | {about}{_default(parameter)} |")
    table = "\n".join(["| option | what it does |", "|---|---|", *rows]) if rows else ""
    text = re.sub(r"\s*\n\s*", " ", (command.help or "").split("\n\n")[0].strip())
    return f"## {' '.join(words)}\n\n{_cell(text)}\n\n```text\n{' '.join(usage)} [OPTIONS]\n```\n\n{table}"


def _names(parameter: Any, kind: Any) -> str:
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    values = _values(kind)
    return f"{names} {parameter.metavar or '/'.join(values) or parameter.name.upper()}"


def _values(kind: Any) -> list[str]:
    """The choices that an annotation leaves; none where it leaves any."""
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    return [value for part in get_args(kind) for value in _values(part)]


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or callable(value) or value in (False, (), []) or parameter.required:
        return " (required)" if parameter.required and parameter.param_type_name == "option" else ""
    return f" Default: `{value}`."


def graph(name: str) -> Callable[[], str]:
    """The Mermaid drawing of a graph, as the command line and Studio run it, by itself."""

    def write() -> str:
        from artrag.interfaces import wiring

        made = getattr(wiring, f"wired_{name}")().compile()
        return f"```mermaid\n{made.get_graph().draw_mermaid().strip()}\n```"

    return write


def modules(package: str) -> Callable[[], str]:
    """The reference of every module of a room, in the order of their names."""

    def write() -> str:
        folder = ROOT / package.replace(".", "/")
        names = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
        return "\n\n".join(f"::: artrag.{package}.{name}" for name in names)

    return write


def nodes() -> str:
    """The reference of every node that `artrag.nodes` exports."""
    from artrag import nodes as room

    return "\n\n".join(f"::: artrag.nodes.{name}.{name}" for name in room.__all__)


def notebooks() -> list[Path]:
    """The notebooks, in their order."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def notebook_list() -> str:
    """What each notebook shows, in the words of its own beginning."""
    entries = []
    for path in notebooks():
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title, _, about = "".join(cells[0]["source"]).partition("\n")
        about = about.strip().split("\n\n")[0]
        entries.append(f"## [{path.stem[:2]} {title.lstrip('# ')}](notebooks/{path.stem}.md)\n\n{about}")
    return "\n\n".join(entries)


def as_page(path: Path) -> str:
    """A notebook with its outputs as a page."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        shown = "\n".join(_output(output) for output in cell["outputs"])
        if shown:
            parts.append(f'<div class="notebook-output">\n{shown}\n</div>')
    where = f"[`notebooks/{path.name}`](../notebooks.md) in the repository; the outputs are those of its last run."
    return "\n\n".join([parts[0], f"*{where}*", *parts[1:]]) + "\n"


def _output(output: Any) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    if "image/svg+xml" in data:
        svg = re.sub(r"<style.*?</style>", "", "".join(data["image/svg+xml"]), flags=re.DOTALL)  # it means the page
        return svg.replace("\n", " ")
    if "text/html" in data:
        page = "".join(data["text/html"])
        if "<style" not in page:
            return page.replace("\n", " ")
        grow = "this.style.height=this.contentDocument.documentElement.scrollHeight+24+'px'"  # its style is its own
        return f'<iframe title="output" onload="{grow}" srcdoc="{html.escape(page)}"></iframe>'.replace("\n", "&#10;")
    text = "".join(output.get("text") or data.get("text/plain", ""))
    lines = html.escape(text, quote=False).strip("\n").replace("\n", "&#10;")  # a blank line would end the block
    return f"<pre><code>{lines}</code></pre>"


GENERATED: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "command-line": command_line,
    "evaluation": modules("evaluation"),
    "nodes": nodes,
    "notebooks": notebook_list,
    "tracing": modules("tracing"),
    **{f"drawing-{name}": graph(name) for name in GRAPHS},
    "training": modules("training"),
}
