"""Forms of setting up, signing in and one's own profile."""

from __future__ import annotations

from wtforms import BooleanField, HiddenField, PasswordField, SelectField, StringField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types
from wtforms.validators import InputRequired, Length

from webapp.actor import Role
from webapp.forms import Form, stripped

_EMAIL = [InputRequired("Give the e-mail address."), Length(max=320, message="That is too long for an address.")]
_PASSWORD = [InputRequired("Give the password."), Length(max=2000, message="That is too long for a password.")]


class SetupForm(Form):
    token = HiddenField()
    name = StringField("Your name", [InputRequired("Give your name.")], filters=[stripped])
    email = StringField("E-mail address", _EMAIL, filters=[stripped])
    password = PasswordField("Password", _PASSWORD)


class SignInForm(Form):
    next = HiddenField()
    email = StringField("E-mail address", _EMAIL, filters=[stripped])
    password = PasswordField("Password", _PASSWORD)


class PasswordForm(Form):
    current = PasswordField("Current password", [InputRequired("Give your current password.")])
    password = PasswordField("New password", _PASSWORD)


class WelcomeForm(Form):
    token = HiddenField()
    password = PasswordField("Password", _PASSWORD)


class UserForm(Form):
    name = StringField("Name", [InputRequired("Give the person's name.")], filters=[stripped])
    role = SelectField(
        "Role", choices=[SelectChoice(role.value, role.label) for role in Role], default=Role.PASSWORD_USER.value
    )


class NewUserForm(UserForm):
    email = StringField("E-mail address", _EMAIL, filters=[stripped])


class EditUserForm(UserForm):
    active = BooleanField("May sign in", default=True)
