"""Shape and field errors of what people type; meaning is judged by the domain."""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Final

from flask import request
from flask_wtf import FlaskForm
from wtforms.form import BaseForm

from webapp.errors import Invalid
from webapp.i18n import N_
from webapp.i18n import gettext as _

_MOST_NAMED: Final = 5
_LONGEST_NAMED: Final = 40  # characters
# What any form may carry besides its own: the proof of who one is, where to go on to, and whose it is.
_ANYWHERE: Final = frozenset({"csrf_token", "proof_password", "proof_code", "proof_passkey", "next", "once", "made_by"})

_log = logging.getLogger(__name__)


# What WTForms says by itself, as Keypost says it.
_SENTENCES: Final = {
    "Not a valid choice.": N_("Choose one of what is offered."),
    "Invalid Choice: could not coerce.": N_("Choose one of what is offered."),
    "Not a valid integer value.": N_("Enter a whole number."),
    "Not a valid date value.": N_("Enter a date."),
    "This field is required.": N_("Fill this in."),
}


class _Translations:
    """What WTForms asks for the words of its own sentences."""

    def gettext(self, sentence: str) -> str:
        return _(_SENTENCES.get(sentence, sentence))

    def ngettext(self, one: str, many: str, number: int) -> str:
        return one if number == 1 else many


class Form(FlaskForm):
    """A form whose fields can also carry what the domain found wrong.

    beside: what its page sends along that is no field of it.
    """

    class Meta(FlaskForm.Meta):
        def get_translations(self, form: BaseForm) -> _Translations:
            return _Translations()

    problem: str = ""
    beside: ClassVar[frozenset[str]] = frozenset()

    def validate(self, extra_validators: Any = None) -> bool:
        """Judge the shape of the fields. What no field is for is left alone, and named in the log without its value."""
        self._note_strays()
        return bool(super().validate(extra_validators))

    def _note_strays(self) -> None:
        strays = [name for name in request.form if name not in self._fields and name not in self.beside | _ANYWHERE]
        if strays:
            named = ", ".join(name[:_LONGEST_NAMED] for name in strays[:_MOST_NAMED])
            _log.warning(
                "%s %s from %s carried %d fields that its form does not have: %s",
                request.method, request.path, request.remote_addr, len(strays), named,
            )  # fmt: skip

    def blame(self, error: Invalid) -> None:
        """Put the domain's sentence at its field, or on top when no field is at fault."""
        field: Any = self._fields.get(error.field or "")
        if field is None:
            self.problem = str(error)
        else:
            field.errors = [*field.errors, str(error)]


def stripped(text: str | None) -> str:
    """What was typed, without the spaces that copying brings along."""
    return (text or "").strip()
