"""Forms of what is imported from a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from werkzeug.datastructures import FileStorage
from wtforms import FileField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types

from webapp.forms import Form
from webapp.i18n import lazy
from webapp.spreadsheet import MAXIMUM_BYTES, Sheet


class TableForm(Form):
    file = FileField(lazy("Table"))

    @property
    def content(self) -> bytes:
        """What was handed over, one byte more than is allowed at most."""
        file = self.upload
        return file.stream.read(MAXIMUM_BYTES + 1) if file is not None else b""

    @property
    def title(self) -> str:
        """What the import is called."""
        file = self.upload
        return (file.filename or "") if file is not None else ""

    @property
    def upload(self) -> FileStorage | None:
        """The file, if one was chosen."""
        file = self.file.data
        return file if isinstance(file, FileStorage) and file.filename else None


class ColumnsForm(Form):
    """Which column holds what; the choices are those of one table. without: what no column is called, by field."""

    without: ClassVar[Mapping[str, str]]

    def offer(self, sheet: Sheet) -> None:
        """Let these columns be chosen."""
        columns = [SelectChoice(number, column[:60]) for number, column in enumerate(sheet.columns)]
        for name, none in self.without.items():
            self[name].choices = [SelectChoice(-1, none), *columns]

    def show(self, columns: Mapping[str, int | None]) -> None:
        """Choose what holds now."""
        for name, column in columns.items():
            self[name].data = -1 if column is None else column

    @property
    def chosen(self) -> dict[str, int | None]:
        """The column of each field, counted from 0."""
        return {name: None if self[name].data in (None, -1) else self[name].data for name in self.without}
