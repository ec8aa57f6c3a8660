"""The Web of Science set as published: ``X.txt``, ``YL1.txt``, ``YL2.txt``, one text a line.

Labels are integers, those of the second level counted anew under each parent, so that a class is
the pair of both. Their names stand in a spreadsheet beside the set, ``Meta-data/Data.xlsx`` (or the
same table as CSV or TSV). It describes the largest of the three published sets; the smaller ones
number their classes differently. Names are taken only when the sheet has exactly the class pairs of
the label files, as often; otherwise classes are called ``YL1 3`` and ``YL2 7``.
Source: Kowsari et al. 2017, HDLTex; https://doi.org/10.17632/9rw3vkcfy4.
"""

import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from hyperlm.data.table import Row, Table, read_rows
from hyperlm.data.textfile import read_lines
from hyperlm.errors import DataError

__all__ = ["original_folder", "original_table"]

Pair = tuple[int, int]
FILES = ("X.txt", "YL1.txt", "YL2.txt")
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def original_folder(folder: Path) -> Path | None:
    """The folder itself, or the largest published set inside it, if it has the three files."""
    for place in (folder, folder / "WOS46985"):
        if all((place / name).is_file() for name in FILES):
            return place
    return None


def original_table(folder: Path) -> tuple[Table, list[str]]:
    """Rows ``text, l1, l2`` of the original files, and warnings about the names of the classes.

    Raises:
        DataError: The three files differ in length, or a label is not an integer.
    """
    texts = [line.rstrip("\r\n") for line in read_lines(folder / "X.txt")]
    tops, subs = (_integers(folder / name) for name in FILES[1:])
    if not len(texts) == len(tops) == len(subs):
        raise DataError(
            f"{folder}: X.txt has {len(texts)} lines, YL1.txt {len(tops)} and YL2.txt {len(subs)}. "
            "The three must agree line by line: fetch the set again."
        )
    if not texts:
        raise DataError(f"{folder / 'X.txt'}: the file is empty. Fetch the set again.")
    pairs = list(zip(tops, subs, strict=True))
    names, warnings = _names(folder, Counter(pairs))
    rows = [
        (number, {"text": text, "l1": names[pair][0], "l2": names[pair][1]})
        for number, (text, pair) in enumerate(zip(texts, pairs, strict=True), 1)
    ]
    return Table(str(folder / "X.txt"), rows), warnings


def _integers(path: Path) -> list[int]:
    numbers = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            numbers.append(int(line))
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: {line.strip()[:40]!r} is not a class number. Each line "
                "holds one integer; fetch the set again."
            ) from error
    return numbers


def _names(folder: Path, counts: Counter[Pair]) -> tuple[dict[Pair, tuple[str, str]], list[str]]:
    numbered = {pair: (f"YL1 {pair[0]}", f"YL2 {pair[1]}") for pair in counts}
    places = [place / inner for place in (folder, folder.parent) for inner in ("Meta-data", "")]
    sheets = [p / f"Data{suffix}" for p in places for suffix in (".xlsx", ".csv", ".tsv")]
    sheet = next((path for path in sheets if path.is_file()), None)
    if sheet is None:
        return numbered, [
            "class names are numbers: put the set's Meta-data/Data.xlsx beside X.txt for real ones"
        ]
    named: dict[Pair, Counter[tuple[str, str]]] = {}
    for row in _xlsx_rows(sheet) if sheet.suffix == ".xlsx" else read_rows(sheet):
        try:
            pair = int(float(row["Y1"])), int(float(row["Y2"]))
            label = row["Domain"].strip(), row["area"].strip()
        except (KeyError, TypeError, ValueError):
            continue  # rows without numbers, such as notes below the table
        named.setdefault(pair, Counter())[label] += 1
    if {pair: sum(names.values()) for pair, names in named.items()} != dict(counts):
        return numbered, [
            f"class names are numbers: {sheet.name} does not describe the same classes as YL1.txt "
            "and YL2.txt (it belongs to the set of 46,985 texts)"
        ]
    return {pair: names.most_common(1)[0][0] for pair, names in named.items()}, []


def _xlsx_rows(path: Path) -> Iterator[Row]:
    """Rows of the first sheet of a spreadsheet, by the names in its first row, all as strings."""
    try:
        with zipfile.ZipFile(path) as book:
            shared: list[str] = []
            if "xl/sharedStrings.xml" in book.namelist():
                with book.open("xl/sharedStrings.xml") as stream:
                    for _, item in ElementTree.iterparse(stream):
                        if item.tag == f"{_SHEET}si":
                            shared.append("".join(t.text or "" for t in item.iter(f"{_SHEET}t")))
                            item.clear()
            header: dict[str, str] = {}
            with book.open("xl/worksheets/sheet1.xml") as stream:
                for _, row in ElementTree.iterparse(stream):
                    if row.tag != f"{_SHEET}row":
                        continue
                    cells = {_column(c): _value(c, shared) for c in row.iter(f"{_SHEET}c")}
                    row.clear()
                    if header:
                        yield {header[k]: v for k, v in cells.items() if k in header}
                    else:
                        header = {k: v.strip() for k, v in cells.items()}
    except (zipfile.BadZipFile, KeyError, IndexError, ElementTree.ParseError) as error:
        raise DataError(
            f"{path}: not a readable spreadsheet ({error}). Fetch it again, save it as Data.csv, "
            "or remove it to use class numbers."
        ) from error


def _column(cell: ElementTree.Element) -> str:
    return cell.get("r", "").rstrip("0123456789")  # "AB12" stands in column AB


def _value(cell: ElementTree.Element, shared: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return "".join(t.text or "" for t in cell.iter(f"{_SHEET}t"))
    text = cell.findtext(f"{_SHEET}v") or ""
    return shared[int(text)] if cell.get("t") == "s" and text else text
