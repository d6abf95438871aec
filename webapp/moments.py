"""Moments and spans of time in words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from webapp.i18n import gettext as _
from webapp.i18n import ngettext

_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)
_SECOND: Final = timedelta(seconds=1)
# How each unit is said by itself, before now, and after it: in German a span bends with what stands before it.
_LASTING: Final[tuple[tuple[timedelta, Callable[[int], str]], ...]] = (
    (_DAY, lambda number: ngettext("%(num)s day", "%(num)s days", number)),
    (_HOUR, lambda number: ngettext("%(num)s hour", "%(num)s hours", number)),
    (_MINUTE, lambda number: ngettext("%(num)s minute", "%(num)s minutes", number)),
    (_SECOND, lambda number: ngettext("%(num)s second", "%(num)s seconds", number)),
)
_AGO: Final[tuple[tuple[timedelta, Callable[[int], str]], ...]] = (
    (_DAY, lambda number: ngettext("%(num)s day ago", "%(num)s days ago", number)),
    (_HOUR, lambda number: ngettext("%(num)s hour ago", "%(num)s hours ago", number)),
    (_MINUTE, lambda number: ngettext("%(num)s minute ago", "%(num)s minutes ago", number)),
    (_SECOND, lambda number: ngettext("%(num)s second ago", "%(num)s seconds ago", number)),
)
_AHEAD: Final[tuple[tuple[timedelta, Callable[[int], str]], ...]] = (
    (_DAY, lambda number: ngettext("in %(num)s day", "in %(num)s days", number)),
    (_HOUR, lambda number: ngettext("in %(num)s hour", "in %(num)s hours", number)),
    (_MINUTE, lambda number: ngettext("in %(num)s minute", "in %(num)s minutes", number)),
    (_SECOND, lambda number: ngettext("in %(num)s second", "in %(num)s seconds", number)),
)


def lasting(span: timedelta) -> str:
    """``3 hours``: in the largest unit of which there are two, or one of the smallest."""
    return _in_units(span, _LASTING) or _("a moment")


def relative(at: datetime, now: datetime) -> str:
    """``3 hours ago``, ``in 2 minutes`` or ``now``."""
    span = at - now
    if abs(span) < timedelta(seconds=2):
        return _("now")
    return _in_units(span, _AHEAD if span > timedelta() else _AGO)


def _in_units(span: timedelta, units: tuple[tuple[timedelta, Callable[[int], str]], ...]) -> str:
    for unit, said in units:
        number = round(abs(span) / unit)
        if number >= 2 or (unit is _SECOND and number == 1):
            return said(number)
    return ""
