"""From what the user names to tables: a file, a folder, a named set, a data set on the hub.

Looked up in this order: the names ``demo``, ``dbpedia``, ``wos``, ``esconv``; a file or folder that
exists; a folder of that name inside the one ``HYPERLM_DATA`` names; a hub id ``owner/name``. For
named sets the folder inside ``HYPERLM_DATA`` comes first. Nothing from the hub is executed or
unpickled.
"""

import importlib.resources
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperlm.data.splits import SPLIT_NAMES, find_split_files
from hyperlm.data.table import FORMATS, Row, Table, file_table
from hyperlm.data.wos import original_folder, original_table
from hyperlm.errors import DataError

__all__ = ["NAMED_SETS", "Located", "hub_answers", "in_data_folder", "locate"]

NAMED_SETS = ("demo", "dbpedia", "wos", "esconv")
DBPEDIA_REPO = "DeveloperOats/DBPedia_Classes"
DBPEDIA_FILES = {split: f"DBPEDIA_{split}.csv" for split in ("train", "val", "test")}
WOS_PAGE = "https://doi.org/10.17632/9rw3vkcfy4"
ESCONV_PAGE = "https://github.com/thu-coai/Emotional-Support-Conversation"


@dataclass(frozen=True)
class Located:
    """Tables by split, or one under ``all`` that is still to be divided."""

    name: str
    kind: str
    tables: dict[str, Table]
    files: dict[str, Path] = field(default_factory=dict)
    taxonomy: Path | None = None
    warnings: list[str] = field(default_factory=list)


def locate(source: str | Path, *, label_columns: Sequence[str] | None = None) -> Located:
    """Find the tables behind ``source``; files are opened later, when their rows are read.

    Raises:
        DataError: Nothing of that name; a folder without tables; not there and no network.
    """
    # A Path is a place, as "./demo" is; a word alone may be the name of a set.
    apart = isinstance(source, Path) and len(source.parts) == 1
    name = f".{os.sep}{source}" if apart else str(source)
    local = in_data_folder(name)
    if name == "demo":
        demo = importlib.resources.files("hyperlm.data") / "demo"
        return _folder(Path(str(demo)), name, "named")
    if name == "dbpedia":
        files = find_split_files(local, "DBPEDIA_") if local else {}
        if not files:
            files = _dbpedia_from_hub()
        return Located(name, "named", {k: file_table(p) for k, p in files.items()}, files)
    if name == "wos":
        if local is None:
            raise DataError(
                "wos: the set is not on this machine. Either fetch it from "
                f"{WOS_PAGE} and put X.txt, YL1.txt, YL2.txt (and Meta-data) into a folder 'wos' "
                "inside the folder that the environment variable HYPERLM_DATA names; or put "
                "train/val/test tables there. A folder elsewhere works by its path."
            )
        return _folder(local, name, "named")
    if name == "esconv":
        if local is None:
            raise DataError(
                f"esconv: the set is not on this machine. Fetch it from {ESCONV_PAGE} and "
                "put train, val and test files with a dialogue to a line (docs/data.md shows one) "
                "into a folder 'esconv' inside the folder that the environment variable "
                "HYPERLM_DATA names. A folder elsewhere works by its path."
            )
        return _folder(local, name, "named")
    path = Path(source)
    if path.is_dir():
        return _folder(path, name, "folder")
    if path.exists():
        return Located(name, "file", {"all": file_table(path)}, {"all": path})
    if local is not None:
        return _folder(local, name, "folder")
    looks_like_hub = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not any(
        name.endswith((suffix, suffix + ".gz")) for suffix in FORMATS
    )
    if looks_like_hub and label_columns:
        return Located(name, "hub", _hub_tables(name))
    if looks_like_hub:
        raise DataError(
            f"{name}: no such folder. If it is a data set on the Hugging Face hub, say with "
            "--label-columns which of its columns hold the labels, coarse to fine."
        )
    if path.suffix:
        next(iter(file_table(path).rows))  # says what is wrong, and what is there instead
    raise DataError(
        f"{name}: no such file, folder or named set. Named sets are {', '.join(NAMED_SETS)}, and "
        "folders inside the one that HYPERLM_DATA names."
    )


def in_data_folder(name: str) -> Path | None:
    """The folder of that name inside the one that ``HYPERLM_DATA`` names."""
    base = os.environ.get("HYPERLM_DATA")
    if not base or name in ("", ".", "..") or Path(name).name != name:
        return None
    folder = Path(base).expanduser() / name
    return folder if folder.is_dir() else None


def _folder(folder: Path, name: str, kind: str) -> Located:
    files = find_split_files(folder)
    original = None if files else original_folder(folder)
    if original is not None:
        table, warnings = original_table(original)
        return Located(name, kind, {"all": table}, {"all": original / "X.txt"}, None, warnings)
    if not files:
        there = sorted(p.name for p in folder.iterdir())[:12]
        raise DataError(
            f"{folder}: no train, val or test table in this folder (it has {there}). Name them "
            f"train, val (or valid, validation, dev) and test, each {', '.join(FORMATS)} or one of "
            "these with .gz; or give one file."
        )
    trees = sorted(p for p in folder.iterdir() if p.name.endswith((".taxonomy", ".taxonomy.gz")))
    if len(trees) > 1:
        raise DataError(
            f"{folder}: {' and '.join(p.name for p in trees)} both say they are the taxonomy. Keep "
            "one, or name it with --taxonomy."
        )
    tables = {split: file_table(path) for split, path in files.items()}
    return Located(name, kind, tables, files, trees[0] if trees else None)


def hub_answers() -> bool:
    """Whether the hub can be reached, by one short try: the library's own retries take minutes."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # the HTTP library behind it, and so the error, differs between versions
        return False
    return True


def _dbpedia_from_hub() -> dict[str, Path]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetch(cached: bool) -> dict[str, Path]:
        return {
            split: Path(
                hf_hub_download(DBPEDIA_REPO, file, repo_type="dataset", local_files_only=cached)
            )
            for split, file in DBPEDIA_FILES.items()
        }

    try:
        return fetch(cached=True)
    except LocalEntryNotFoundError:
        pass  # not downloaded before
    try:
        if not hub_answers():
            raise OSError("the hub does not answer")
        return fetch(cached=False)
    except Exception as error:  # of whichever HTTP library; all mean "not to be had"
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"dbpedia: the set is neither on this machine nor to be had now ({reason}). "
            f"Either connect to the network, so that it is fetched from the Hugging Face hub "
            f"({DBPEDIA_REPO}, {', '.join(DBPEDIA_FILES.values())}); or put train.csv, val.csv and "
            "test.csv with the columns text,l1,l2,l3 into a folder 'dbpedia' inside the folder "
            "that the environment variable HYPERLM_DATA names."
        ) from error


def _hub_tables(name: str) -> dict[str, Table]:
    if importlib.util.find_spec("datasets") is None:
        raise DataError(
            f"{name}: data sets on the hub are read by the package 'datasets', which is not "
            "installed. Run `pip install datasets`, or download the files and give their folder."
        )
    import datasets

    if not datasets.config.HF_HUB_OFFLINE and not hub_answers():
        raise DataError(
            f"{name}: no such file or folder here, and the Hugging Face hub does not answer. "
            "Connect to the network, set HF_HUB_OFFLINE=1 to use a copy downloaded before, or "
            "give the path of a folder with the files."
        )
    try:
        loaded: Any = datasets.load_dataset(name)
    except Exception as error:  # the library raises many kinds; all mean "not to be had"
        reason = str(error).strip().partition("\n")[0][:300]
        raise DataError(
            f"{name}: no such file or folder here, and the Hugging Face hub gave no data set of "
            f"that name ({type(error).__name__}: {reason}). Check name and network, or download "
            "the files and give their folder."
        ) from error
    tables = {}
    for split, aliases in SPLIT_NAMES.items():
        found = next((loaded[alias] for alias in aliases if alias in loaded), None)
        if found is not None:
            tables[split] = Table(f"{name} ({split})", _HubRows(found), unit="row", typed=True)
    if not tables:
        raise DataError(f"{name}: has the splits {list(loaded)}, none of them train, val or test.")
    return tables


@dataclass(frozen=True)
class _HubRows:
    """Rows of a ``datasets`` split; class numbers, alone or in lists, become class names."""

    split: Any

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        names = {
            column: known
            for column, feature in self.split.features.items()
            if (known := _class_names(feature)) is not None
        }
        for number, row in enumerate(self.split, 1):
            for column, known in names.items():
                row[column] = _in_names(row[column], known)
            yield number, dict(row)


def _class_names(feature: Any) -> list[str] | None:
    """Names of a class feature, or of one inside a list; None of other features."""
    while not hasattr(feature, "names"):
        if isinstance(feature, list) and len(feature) == 1:  # as older versions write lists
            feature = feature[0]
        elif hasattr(feature, "feature"):
            feature = feature.feature
        else:
            return None
    return list(feature.names)


def _in_names(value: Any, known: Sequence[str]) -> Any:
    if value is None or isinstance(value, int):
        return known[value] if value is not None and value >= 0 else None
    named = (_in_names(one, known) for one in value)
    return [name for name in named if name is not None]
