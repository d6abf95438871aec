"""The form of one mail's wording."""

from __future__ import annotations

from typing import Any

from wtforms import IntegerField, StringField, TextAreaField
from wtforms.widgets import HiddenInput

from webapp.forms import Form, stripped
from webapp.i18n import lazy
from webapp.mail.rewording import Standing


class WordingForm(Form):
    subject = StringField(lazy("Subject"), filters=[stripped])
    text = TextAreaField(lazy("Text"))
    version = IntegerField(widget=HiddenInput(), default=0)

    def show(self, standing: Standing) -> None:
        """Fill in what is saved."""
        self.subject.data, self.text.data = standing.wording.subject, standing.wording.text.rstrip()
        self.version.data = standing.version

    def overtake(self, version: int) -> None:
        """Let the next save replace that version. A field shows what was sent as long as it has it."""
        self.version.data, self.version.raw_data = version, None

    def given(self) -> dict[str, Any]:
        """What was typed, for the domain to judge."""
        return {"subject": self.subject.data or "", "text": self.text.data or "", "version": self.version.data or 0}
