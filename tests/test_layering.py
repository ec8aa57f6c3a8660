"""Imports point one way, and heavy libraries stay where they belong.

Read from the source with ``ast``: what a function imports when it is called counts as well.
"""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import hyperlm

ROOT = Path(hyperlm.__file__).parent

# Lower layers know nothing of higher ones; modules of one layer may know each other. A module split
# off another, such as taxonomy_io, stands where that one does.
ORDER = (
    {"errors"},
    {"taxonomy", "manifolds"},
    {
        "heads",
        "decoding",
        "calibration",
        "cuts",
        "cut_tables",
        "label_sets",
        "metrics",
        "text_metrics",
        "data",
        "embedding",
        "optim",
        "options",
        "prediction",
        "several",
    },
    {"lm"},
    {
        "classifier",
        "training",
        "progress",
        "quiet",
        "checkpoints",
        "runfolder",
        "run_texts",
        "card",
        "export",
    },
    {"viz"},
    {"run"},
    {"experiments"},
    {"cli", "__main__"},
)
LAYER = {name: depth for depth, names in enumerate(ORDER) for name in names}

# Third-party library -> the parts of the package that may import it, anywhere in their code.
MAY_IMPORT = {
    "transformers": {"lm", "training", "progress", "quiet", "run"},
    "peft": {"lm"},
    "matplotlib": {"viz"},
    "typer": {"cli"},
    "rich": {"cli", "run"},
    "umap": {"viz"},
    "huggingface_hub": {"data", "lm", "quiet"},
    "datasets": {"data"},
    "pyarrow": {"data"},
    "onnxruntime": {"export"},
}
# Libraries that a part must do without altogether.
NEVER = {
    "taxonomy": {"torch", "transformers", "geoopt", "sklearn"},
    "errors": {"torch", "numpy"},
    "manifolds": {"transformers", "networkx", "tokenizers"},
    "data": {"torch", "transformers"},
    "heads": {"transformers", "peft"},
}


def part_of(path: Path) -> str:
    """The first name below the package: ``lm`` for ``hyperlm/lm/model.py``."""
    return known(path.relative_to(ROOT).parts[0].removesuffix(".py"))


def known(name: str) -> str:
    """``taxonomy`` for ``taxonomy_io``; other names as they are."""
    family = name.split("_")[0]
    return name if name in LAYER or family not in LAYER else family


def sources() -> list[Path]:
    return [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@functools.cache
def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted module) of every import in a file, those for type checkers left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            module = node.module or ""
            if module == "hyperlm":  # from hyperlm import x: x may be a part
                found += [(node.lineno, f"hyperlm.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, module))
    return found


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT.parent)}:{line}"


def test_every_part_has_a_layer():
    parts = {part_of(path) for path in sources()}
    assert parts <= set(LAYER), f"give {parts - set(LAYER)} a place in ORDER"


def test_imports_point_one_way():
    wrong = []
    for path in sources():
        here = LAYER.get(part_of(path), len(ORDER))
        for line, module in imports(path):
            names = module.split(".")
            if names[0] != "hyperlm" or len(names) == 1:
                continue
            if LAYER.get(known(names[1]), 0) > here:
                wrong.append(f"{where(path, line)} imports {module}, which is above it")
    assert not wrong, "\n".join(wrong)


def test_no_part_imports_the_package_itself_for_its_lazy_names():
    """``from hyperlm import HyperbolicHead`` inside the package would hide what depends on what."""
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in sources()}
    parts.add("__version__")
    wrong = [
        f"{where(path, line)}: {module}"
        for path in sources()
        for line, module in imports(path)
        if module.startswith("hyperlm.") and module.split(".")[1] not in parts
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", MAY_IMPORT)
def test_a_library_stays_where_it_belongs(library):
    wrong = [
        where(path, line)
        for path in sources()
        for line, module in imports(path)
        if module.split(".")[0] == library and part_of(path) not in MAY_IMPORT[library]
    ]
    assert not wrong, f"{library} is imported in {wrong}"


@pytest.mark.parametrize("part", NEVER)
def test_a_part_does_without(part):
    wrong = [
        f"{where(path, line)}: {module}"
        for path in sources()
        if part_of(path) == part
        for line, module in imports(path)
        if module.split(".")[0] in NEVER[part]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(not (ROOT / "cli").exists(), reason="no command yet")
def test_the_command_is_there_without_its_heavy_libraries():
    """It imports inside its handlers, so that ``hyperlm --help`` answers at once."""
    heavy = {"torch", "transformers", "geoopt", "matplotlib", "pyarrow", "sklearn", "networkx"}
    code = f"import sys, hyperlm.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_records_are_read_without_the_libraries_of_backbones():
    """Before it knows what it is to do, a process of an experiment has imported this."""
    heavy = {"peft", "geoopt", "transformers.trainer", "transformers.modeling_utils"}
    code = f"import sys, hyperlm.experiments.workers; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_head_comes_without_the_compiler_and_the_libraries_of_backbones():
    heavy = {"torch._dynamo", "transformers", "peft", "matplotlib"}
    code = (
        f"import sys; from hyperlm import HyperbolicHead; print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_init_files_only_re_export():
    for path in sorted(ROOT.rglob("__init__.py")):
        if path.parent in (ROOT, ROOT / "cli", ROOT / "experiments"):
            continue  # lazy names and the assembled command, by design
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            exports = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            assert text or exports or isinstance(node, ast.ImportFrom), where(path, node.lineno)
