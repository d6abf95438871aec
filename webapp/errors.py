"""What can go wrong, each with a sentence for the person who meets it."""

from typing import cast


class Problem(Exception):
    """Something a person must know: ``str(problem)`` says what happened, why, and what to do next."""

    @property
    def sentence(self) -> str:
        """The same, as it was given: what can be told again in another language stays so."""
        return cast(str, self.args[0])


class Invalid(Problem):
    """Input that cannot be used as it is.

    ``field`` is the form field where the mistake was made, or None when no single field is at fault.
    """

    def __init__(self, sentence: str, field: str | None = None) -> None:
        super().__init__(sentence)
        self.field = field


class NotFound(Problem):
    """There is no such thing, or the person asking may not know of it: the two are never told apart."""


class Refused(Problem):
    """The person asking may not do this."""


class Conflict(Problem):
    """Somebody else changed the same thing in the meantime, or something still depends on it."""


class Unavailable(Problem):
    """It cannot be done at the moment; nothing was changed, and it may work later."""


class CannotStart(Problem):
    """The program cannot run as it is set up; the sentence names the setting or file at fault."""
