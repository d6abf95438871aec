"""The form that imports certificates."""

from __future__ import annotations

from werkzeug.datastructures import FileStorage
from wtforms import FileField, TextAreaField

from webapp.forms import Form
from webapp.i18n import lazy
from webapp.trust.certificates import MAXIMUM_BYTES


class ImportForm(Form):
    file = FileField(lazy("Certificate file"))
    pem = TextAreaField(lazy("Or paste it as text"))

    @property
    def content(self) -> bytes:
        """What was handed over, one byte more than is allowed at most: the file, or else the text."""
        file = self._upload
        if file is not None:
            return file.stream.read(MAXIMUM_BYTES + 1)
        return (self.pem.data or "").encode()[: MAXIMUM_BYTES + 1]

    @property
    def source(self) -> str:
        """Where the content came from, for the record."""
        file = self._upload
        return f"uploaded file {file.filename}" if file is not None else "pasted text"

    @property
    def _upload(self) -> FileStorage | None:
        file = self.file.data
        return file if isinstance(file, FileStorage) and file.filename else None
