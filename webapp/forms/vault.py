"""Forms of resources and their accounts."""

from __future__ import annotations

from wtforms import IntegerField, PasswordField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types
from wtforms.validators import InputRequired, Length
from wtforms.widgets import HiddenInput

from webapp.forms import Form, stripped
from webapp.i18n import later, lazy
from webapp.vault.resources import KINDS, kind_label

_NOTES = TextAreaField(lazy("Notes"), [Length(max=4000, message=lazy("Notes can have at most 4000 characters."))])


class ResourceForm(Form):
    name = StringField(
        lazy("Name"),
        [InputRequired(lazy("Give the resource a name.")), Length(max=200, message=lazy("At most 200 characters."))],
        filters=[stripped],
    )
    kind = SelectField(lazy("Type"), choices=[SelectChoice(kind, later(kind_label, kind)) for kind in KINDS])
    address = StringField(
        lazy("Address"), [Length(max=300, message=lazy("At most 300 characters."))], filters=[stripped]
    )
    notes = _NOTES
    version = IntegerField(widget=HiddenInput(), default=0)


class AccountForm(Form):
    username = StringField(
        lazy("User name"),
        [
            InputRequired(lazy("Give the account's user name.")),
            Length(max=200, message=lazy("At most 200 characters.")),
        ],
        filters=[stripped],
    )
    notes = _NOTES


class EditAccountForm(AccountForm):
    version = IntegerField(widget=HiddenInput(), default=0)


class NewAccountForm(AccountForm):
    password = PasswordField(lazy("Password"), [InputRequired(lazy("Give the account's password, or generate one."))])


class NewPasswordForm(Form):
    password = PasswordField(lazy("New password"), [InputRequired(lazy("Give the new password, or generate one."))])
