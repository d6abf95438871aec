"""Forms of setting up, signing in and one's own profile."""

from __future__ import annotations

from wtforms import (
    BooleanField,
    HiddenField,
    IntegerField,
    PasswordField,
    SelectField,
    SelectMultipleField,
    StringField,
)
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types
from wtforms.validators import InputRequired, Length
from wtforms.widgets import HiddenInput

from webapp.actor import Role
from webapp.forms import Form, stripped
from webapp.i18n import later, lazy

_EMAIL = [
    InputRequired(lazy("Give the e-mail address.")),
    Length(max=320, message=lazy("That is too long for an address.")),
]
_PASSWORD = [
    InputRequired(lazy("Give the password.")),
    Length(max=2000, message=lazy("That is too long for a password.")),
]
# Whose password is set; no form of ours reads it.
_FOR_PASSWORD_MANAGERS = frozenset({"username"})


class SetupForm(Form):
    token = HiddenField()
    name = StringField(lazy("Your name"), [InputRequired(lazy("Give your name."))], filters=[stripped])
    email = StringField(lazy("E-mail address"), _EMAIL, filters=[stripped])
    password = PasswordField(lazy("Password"), _PASSWORD)


class SignInForm(Form):
    next = HiddenField()
    email = StringField(lazy("E-mail address"), _EMAIL, filters=[stripped])
    password = PasswordField(lazy("Password"), _PASSWORD)


class SecondStepForm(Form):
    next = HiddenField()
    code = StringField(
        lazy("Code"),
        [InputRequired(lazy("Give the code.")), Length(max=40, message=lazy("That is too long for a code."))],
        filters=[stripped],
    )


class AppForm(Form):
    code = StringField(
        lazy("Code from the app"),
        [InputRequired(lazy("Give the code that the app shows.")), Length(max=40)],
        filters=[stripped],
    )


class PasskeyForm(Form):
    credential = HiddenField(validators=[Length(max=20_000)])
    name = StringField(lazy("Name"), [Length(max=60, message=lazy("At most 60 characters."))], filters=[stripped])


class PolicyForm(Form):
    second_factor_roles = SelectMultipleField(
        lazy("Second factor"), choices=[SelectChoice(role.value, later(getattr, role, "label")) for role in Role]
    )
    idle_minutes = IntegerField(lazy("Minutes without use"), [InputRequired(lazy("Give a number of minutes."))])
    longest_hours = IntegerField(lazy("Hours in all"), [InputRequired(lazy("Give a number of hours."))])
    free_attempts = IntegerField(
        lazy("Wrong attempts before waiting"), [InputRequired(lazy("Give a number of attempts."))]
    )
    version = IntegerField(widget=HiddenInput(), default=0)


class PasswordForm(Form):
    beside = _FOR_PASSWORD_MANAGERS
    current = PasswordField(lazy("Current password"), [InputRequired(lazy("Give your current password."))])
    password = PasswordField(lazy("New password"), _PASSWORD)


class WelcomeForm(Form):
    beside = _FOR_PASSWORD_MANAGERS
    token = HiddenField()
    password = PasswordField(lazy("Password"), _PASSWORD)


class UserForm(Form):
    name = StringField(lazy("Name"), [InputRequired(lazy("Give the person's name."))], filters=[stripped])
    role = SelectField(
        lazy("Role"),
        choices=[SelectChoice(role.value, later(getattr, role, "label")) for role in Role],
        default=Role.PASSWORD_USER.value,
    )


class NewUserForm(UserForm):
    email = StringField(lazy("E-mail address"), _EMAIL, filters=[stripped])


class EditUserForm(UserForm):
    active = BooleanField(lazy("May sign in"), default=True)
