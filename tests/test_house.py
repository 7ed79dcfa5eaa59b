"""The house keeps its rooms: import directions, names, and what ends up in the wheel."""

import ast
import gc
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import artrag
from artrag import errors

ROOT = Path(__file__).parents[1]
ROOMS = {
    "core": set(),
    "prompts": {"core"},
    "models": {"core", "prompts"},
    "index": {"core", "models"},
    "tools": {"core"},
    "tracing": {"core"},
    "evaluation": {"core"},
    "training": {"core", "prompts", "models", "index", "evaluation"},
    "nodes": {"core", "prompts", "index", "tools", "tracing", "evaluation"},
    "nodes.simrag": {"core", "prompts", "index", "evaluation", "models", "training", "nodes"},
    "nodes.evaluate": {"core", "prompts", "tracing", "evaluation", "nodes"},
    "graphs": {
        "core",
        "prompts",
        "index",
        "tools",
        "tracing",
        "evaluation",
        "nodes",
        "nodes.evaluate",
        "nodes.simrag",
    },
    "interfaces": {
        "core",
        "prompts",
        "models",
        "index",
        "tools",
        "tracing",
        "evaluation",
        "training",
        "nodes",
        "nodes.evaluate",
        "nodes.simrag",
        "graphs",
    },
}
SOURCES = [(room, path) for room in ROOMS for path in sorted((ROOT / room.replace(".", "/")).glob("*.py"))]


def imports(tree: ast.AST) -> list[tuple[str, bool]]:
    """(module, at import time?) of everything imported from artrag."""
    lazy: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lazy.update(ast.walk(node))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            lazy.update(ast.walk(node))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "artrag":
            names = [f"artrag.{a.name}" for a in node.names] if node.module == "artrag" else [node.module]
            found += [(name, node not in lazy) for name in names]
    return found


def room_of(module: str) -> str:
    parts = module.split(".")
    if ".".join(parts[1:3]) in ROOMS:
        return ".".join(parts[1:3])
    part = parts[1]
    return part if part in ROOMS else "core"


@pytest.mark.parametrize(("room", "path"), SOURCES, ids=lambda value: getattr(value, "name", value))
def test_rooms_import_only_the_rooms_below(room: str, path: Path) -> None:
    for module, eager in imports(ast.parse(path.read_text("utf-8"))):
        target = room_of(module)
        if target == room or (room == "core" and path.name == "__init__.py" and not eager):
            continue
        assert target in ROOMS[room], f"{path} imports {module}"
        if (room, target) == ("index", "models"):
            assert not eager, f"{path} may import {module} only lazily"


def test_no_node_knows_a_model_class() -> None:
    for path in (ROOT / "nodes").glob("*.py"):
        assert "artrag.models" not in path.read_text("utf-8"), path


def test_import_is_light() -> None:
    heavy = ["torch", "transformers", "faiss", "langchain_community"]
    code = (
        "import sys, artrag; artrag.build_art, artrag.Settings; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_facade_gives_every_name_and_no_other() -> None:
    for name in artrag.__all__:
        assert getattr(artrag, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        artrag.nothing  # noqa: B018


def test_error_tree_is_drawn_whole() -> None:
    assert errors.__doc__ is not None
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert name in errors.__doc__, f"{name} is not in the drawing"
            assert issubclass(value, errors.ArtragError)


def test_wheel_holds_one_top_level_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("artrag-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"artrag"}
    for prompt in (ROOT / "prompts").glob("*.md"):
        assert f"artrag/prompts/{prompt.name}" in names
    for room in ROOMS:
        folder = "artrag" if room == "core" else f"artrag/{room}"
        for source in (ROOT / room).glob("*.py"):
            assert f"{folder}/{source.name}" in names
    assert "artrag/py.typed" in names
    (entries,) = (name for name in names if name.endswith("entry_points.txt"))
    assert b"artrag.interfaces.cli:main" in zipfile.ZipFile(wheel).read(entries)


def test_every_node_says_which_keys_it_reads() -> None:
    for path in sorted((ROOT / "nodes").glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        factory = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == path.stem), None)
        if factory is None:
            continue
        told = set(re.findall(r"`(\w+)`", ast.get_docstring(factory) or ""))
        source = ast.unparse(tree)
        read = set(re.findall(r"\bstate(?:\[|\.get\()'(\w+)'", source))
        assert read - {"usage"} <= told, f"{path.name} reads {sorted(read - told)}, which its docstring does not name"


def test_the_server_keeps_the_collector_out_of_the_way() -> None:
    import artrag.interfaces.studio  # noqa: F401
    from artrag.interfaces.serving import YOUNG

    assert gc.get_threshold()[0] == YOUNG and gc.get_freeze_count() > 10_000
