"""The sheets of the report as CSV: one file each."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from naxcli.errors import NaxcliError
from naxcli.records.files import make_folder, write_file
from naxcli.report.data import ReportData
from naxcli.report.section import Section, Sheet, walk
from naxcli.report.sections import sections

# A cell that begins with one of these is a formula to a spreadsheet, or the rest of one.
FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")


def write_csv(folder: Path, data: ReportData) -> list[Path]:
    """Write every sheet of the report into a folder and return the files; a sheet without rows has its header only.

    Raises:
        NaxcliError: if a file of such a name is there that is not a sheet of a report, or the folder cannot be written.
    """
    return write_sheets(folder, _sheets(sections(data)))


def _sheets(listed: Sequence[Section]) -> list[Sheet]:
    return [element for element in walk(listed) if isinstance(element, Sheet)]


def write_sheets(folder: Path, sheets: Sequence[Sheet]) -> list[Path]:
    """Write sheets into a folder and return the files.

    Raises:
        NaxcliError: as `write_csv`.
    """
    make_folder(folder)
    files = {folder / f"{sheet.name}.csv": sheet for sheet in sheets}
    for path, sheet in files.items():
        if path.exists() and not path.read_bytes().startswith(sheet.columns[0].encode()):
            raise NaxcliError(f"{path} is not a table of a report", hint="name another folder, or move the file away")
    for path, sheet in files.items():
        write_file(path, _render(sheet))
    return list(files)


def _render(sheet: Sheet) -> str:
    """Return a sheet as CSV; null becomes an empty cell."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, sheet.columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _inert(value) for key, value in row.items()} for row in sheet.rows)
    return buffer.getvalue()


def _inert(value: Any) -> Any:
    """Return a cell's value; text that a spreadsheet would compute gets an apostrophe in front, as OWASP advises."""
    if not isinstance(value, str) or not value.startswith(FORMULA_STARTS):
        return value
    with contextlib.suppress(ValueError):
        float(value)
        return value
    return f"'{value}"
