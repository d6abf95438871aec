"""Forms of setting up, signing in and one's own profile."""

from __future__ import annotations

from wtforms import HiddenField, PasswordField, StringField
from wtforms.validators import InputRequired, Length

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
