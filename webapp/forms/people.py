"""Forms of adding people: one, many from a table, and those who have forgotten their password."""

from __future__ import annotations

from types import MappingProxyType

from wtforms import BooleanField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types
from wtforms.validators import InputRequired, Length

from webapp.actor import Role
from webapp.errors import Invalid
from webapp.forms import Form, stripped
from webapp.forms.tables import ColumnsForm, TableForm
from webapp.i18n import gettext as _
from webapp.i18n import later, lazy
from webapp.identity.people import Standing
from webapp.spreadsheet import MAXIMUM_BYTES


class ForgottenForm(Form):
    email = StringField(
        lazy("E-mail address"),
        [
            InputRequired(lazy("Give the e-mail address.")),
            Length(max=320, message=lazy("That is too long for an address.")),
        ],
        filters=[stripped],
    )


class PeopleFilter(Form):
    """What the list of users is narrowed to; it comes with GET, and whatever is no choice narrows nothing."""

    role = SelectField(
        lazy("Role"),
        choices=[
            SelectChoice("", lazy("Every role")),
            *(SelectChoice(role.value, later(getattr, role, "label")) for role in Role),
        ],
    )
    show = SelectField(
        lazy("Show"), choices=[SelectChoice(standing.value, later(getattr, standing, "label")) for standing in Standing]
    )

    @property
    def chosen_role(self) -> Role | None:
        return Role(self.role.data) if self.role.data in list(Role) else None

    @property
    def chosen_standing(self) -> Standing:
        return Standing(self.show.data) if self.show.data in list(Standing) else Standing.EVERYBODY


class ImportForm(TableForm):
    text = TextAreaField(lazy("Or paste it as text"))

    @property
    def content(self) -> bytes:
        """What was handed over, one byte more than is allowed at most: the file, or else the text."""
        return super().content if self.upload is not None else (self.text.data or "").encode()[: MAXIMUM_BYTES + 1]

    def blame(self, error: Invalid) -> None:
        """Put the sentence where the table came from."""
        pasted = self.upload is None and self.text.data
        super().blame(Invalid(str(error), "text" if pasted else "file"))

    @property
    def title(self) -> str:
        """What the import is called."""
        return super().title if self.upload is not None else _("Pasted text")


class PeopleColumnsForm(ColumnsForm):
    without = MappingProxyType({"email": lazy("Choose…"), "name": lazy("Choose…"), "role": lazy("None: Password User")})

    email = SelectField(lazy("E-mail address"), coerce=int)
    name = SelectField(lazy("Name"), coerce=int)
    role = SelectField(lazy("Role"), coerce=int)


class StartForm(Form):
    by_mail = BooleanField(lazy("Send each person the mail with their link now"), default=True)
