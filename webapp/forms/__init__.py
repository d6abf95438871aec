"""Shape and field errors of what people type; meaning is judged by the domain."""

from __future__ import annotations

from typing import Any

from flask_wtf import FlaskForm

from webapp.errors import Invalid


class Form(FlaskForm):
    """A form whose fields can also carry what the domain found wrong."""

    problem: str = ""

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
