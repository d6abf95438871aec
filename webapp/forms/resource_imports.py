"""What is asked before resources are imported."""

from __future__ import annotations

from types import MappingProxyType

from wtforms import BooleanField, RadioField, SelectField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types

from webapp.forms.tables import ColumnsForm
from webapp.i18n import lazy

_NONE = lazy("None")


class ResourceColumnsForm(ColumnsForm):
    """Which column holds what, and what becomes of accounts that are there already."""

    without = MappingProxyType(
        {
            "resource": lazy("Choose…"),
            "username": _NONE,
            "password": _NONE,
            "address": _NONE,
            "kind": lazy("None: Server"),
            "resource_notes": _NONE,
            "notes": _NONE,
        }
    )

    resource = SelectField(lazy("Resource"), coerce=int)
    username = SelectField(lazy("User name"), coerce=int)
    password = SelectField(lazy("Password"), coerce=int)
    address = SelectField(lazy("Address"), coerce=int)
    kind = SelectField(lazy("Type"), coerce=int)
    resource_notes = SelectField(lazy("Notes of the resource"), coerce=int)
    notes = SelectField(lazy("Notes of the account"), coerce=int)
    has_heading = BooleanField(lazy("The first line holds headings"))
    there = RadioField(
        lazy("Accounts that are there already"),
        choices=[
            SelectChoice("skip", lazy("stay as they are")),
            SelectChoice("replace", lazy("get the password of the table")),
        ],
        default="skip",
    )

    @property
    def replaces(self) -> bool:
        return bool(self.there.data == "replace")
