"""Forms of sharing and of handing over to another owner."""

from __future__ import annotations

from wtforms import BooleanField, HiddenField, IntegerField, RadioField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types
from wtforms.validators import InputRequired, NumberRange

from webapp.forms import Form
from webapp.i18n import later, lazy
from webapp.search import LARGEST_ID
from webapp.vault.rights import ON_ACCOUNT, ON_RESOURCE, Right

_NOBODY = lazy("Choose a person out of the list.")


class PersonForm(Form):
    """Somebody out of a list; ``q`` is what narrowed it down."""

    q = HiddenField()
    who = IntegerField(
        lazy("Person"), [InputRequired(_NOBODY), NumberRange(1, LARGEST_ID, message=_NOBODY)], default=None
    )


class ShareForm(PersonForm):
    right = RadioField(
        lazy("Right"),
        [InputRequired(lazy("Choose what this person may do."))],
        choices=[SelectChoice(right.word, later(getattr, right, "label")) for right in ON_RESOURCE],
    )

    def given(self) -> Right:
        """The right that was chosen, once the form is valid."""
        return Right.from_word(str(self.right.data))


class ShareAccountForm(ShareForm):
    right = RadioField(
        lazy("Right"),
        [InputRequired(lazy("Choose what this person may do."))],
        choices=[SelectChoice(right.word, later(getattr, right, "label")) for right in ON_ACCOUNT],
    )


class WithdrawForm(Form):
    although_used = BooleanField()


class TransferForm(PersonForm):
    keep = RadioField(
        lazy("What you keep"),
        choices=[
            SelectChoice("", lazy("Nothing")),
            *(SelectChoice(right.word, later(getattr, right, "label")) for right in ON_RESOURCE),
        ],
        default="",
    )
    although_used = BooleanField()

    def kept(self) -> Right | None:
        """What the owner until now may still do, once the form is valid."""
        return Right.from_word(str(self.keep.data)) if self.keep.data else None
