"""Go to: the pages, resources and accounts that somebody may open, by a few letters: a page, and a dialog (Ctrl-K)."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, render_template, request, url_for

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.actor import Actor
from webapp.blueprints import database
from webapp.i18n import gettext as _
from webapp.search import LONGEST_QUERY, key, words
from webapp.vault import accounts, resources

bp = Blueprint("palette", __name__, url_prefix="/go")

_MOST_OF_EACH = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to go. kind: what it is, in the reader's words."""

    label: str
    url: str
    kind: str


@bp.get("")
@allow(Access.SIGNED_IN)
def show() -> str:
    """What the letters typed lead to; without any, the pages."""
    q = request.args.get("q", "")[:LONGEST_QUERY]
    template = "palette/_places.html" if htmx.is_htmx() else "palette/show.html"
    return render_template(template, q=q, places=_places(q))


def _places(q: str) -> list[Place]:
    actor = current_actor()
    wanted = words(q)
    found = [place for place in _pages(actor) if all(word in key(place.label) for word in wanted)]
    if not wanted:
        return found
    with database().reading() as session:
        lines = resources.find_resources(session, actor, q, per_page=_MOST_OF_EACH).items
        choices = accounts.choices(session, actor, q, limit=_MOST_OF_EACH)
    found += [Place(each.name, url_for("resources.show", resource_id=each.id), _("Resource")) for each in lines]
    return found + [Place(each.label, url_for("accounts.show", account_id=each.id), _("Account")) for each in choices]


def _pages(actor: Actor) -> list[Place]:
    pages = [(_("Resources"), "resources.index")]
    if actor.adds_resources:
        pages.append((_("Add resource"), "resources.new"))
    pages += [(_("Import resources"), "resource_imports.new"), (_("Export resources"), "resource_exports.show")]
    if actor.is_administrator:
        pages += [
            (_("Admin"), "admin.index"),
            (_("Mail Server Settings"), "mail_settings.show"),
            (_("Certificates"), "certificates.index"),
            (_("Mail texts"), "mail_texts.index"),
            (_("Users"), "users.index"),
            (_("Add user"), "users.new"),
            (_("Import users"), "imports.new"),
            (_("Outbox"), "outbox.index"),
            (_("Sign-in policy"), "sign_in_policy.show"),
        ]
    if Access.AUDITOR.lets_in(actor):
        pages.append((_("Audit"), "audit.index"))
    pages += [(_("Profile"), "profile.show"), (_("Second factor"), "second_factor.show")]
    pages += [(_("Mails"), "mail_preferences.show"), (_("Language and time zone"), "language.show")]
    pages.append((_("Keyboard"), "keyboard.show"))
    return [Place(label, url_for(endpoint), _("Page")) for label, endpoint in pages]
