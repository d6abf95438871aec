"""`keypost outbox …`: what waits, what became of each message, and what can be done about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from webapp.actor import Actor, command_line
from webapp.cli.options import as_json
from webapp.db import Session
from webapp.installation import Installation
from webapp.mail import settings
from webapp.mail.retrospect import meaning_of
from webapp.moments import relative
from webapp.outbox import ledger, pause
from webapp.outbox.ledger import Wanted
from webapp.outbox.messages import FailedAttempt, Kind, Message, State
from webapp.outbox.standing import standing
from webapp.search import LARGEST_ID

NUMBER = click.IntRange(1, LARGEST_ID)
state_option = click.option("--state", type=click.Choice([each.value for each in State]), help="Only in this state.")
kind_option = click.option("--kind", type=click.Choice([each.value for each in Kind]), help="Only of this kind.")
search_option = click.option("--search", "q", default="", help="Only with these words: name, address or Message-ID.")


@click.group()
def group() -> None:
    """The messages to people: what waits, and what became of each."""


@group.command("list")
@state_option
@kind_option
@search_option
@click.option("--page", type=click.IntRange(1), default=1, show_default=True, help="50 messages each.")
@as_json
@click.pass_obj
def list_(installation: Installation, *, state: str | None, kind: str | None, q: str, page: int, as_json: bool) -> None:
    """Show messages, the newest first; those that wait, in the order they will be tried."""
    with installation.database.reading() as session:
        found = ledger.find(session, _wanted(state, kind, q), page=page)
        counts, now = ledger.counts(session), session.now()
    if as_json:
        told = {"total": found.total, "page": found.page, "pages": found.pages, "counts": counts}
        click.echo(json.dumps({"messages": [_as_dict(each) for each in found.items]} | told))
        return
    for each in found.items:
        click.echo(_line(each, now))
    if not found.items:
        click.echo("No message is like that." if state or kind or q else "The outbox is empty.")
    elif found.pages > 1:
        click.echo(f"Page {found.page} of {found.pages}, {found.total} messages; the next with --page {found.page + 1}")
    click.echo(", ".join(f"{number} {each.label}" for each, number in counts.items() if number) or "Nothing waits.")


@group.command("show")
@click.argument("number", type=NUMBER)
@as_json
@click.pass_obj
def show(installation: Installation, number: int, as_json: bool) -> None:
    """Show one message, each failed attempt, and what can be done; never what it says."""
    with installation.database.reading() as session:
        entry = ledger.get(session, number)
        now = session.now()
    message = entry.message
    if as_json:
        attempts = [_attempt_dict(message, each) for each in entry.attempts]
        click.echo(json.dumps(_as_dict(message) | {"failed_attempts": attempts}))
        return
    click.echo(_line(message, now))
    click.echo(f"  queued       {_moment(message.queued_at)} by {message.cause}")
    if message.message_id:
        click.echo(f"  Message-ID   {message.message_id}")
    if message.reply and not message.code:
        click.echo(f"  server       {message.server}: {message.reply}")
    if message.code and message.code not in {attempt.code for attempt in entry.attempts}:
        meaning = meaning_of(message.code, server=message.server, recipient=message.recipient, stage=message.stage)
        for words in meaning or ():
            click.echo(f"    {words}")
    for attempt in entry.attempts:
        click.echo(f"  {_moment(attempt.at)}  {attempt.code}{f' at {attempt.stage}' if attempt.stage else ''}")
        meaning = meaning_of(attempt.code, server=attempt.server, recipient=message.recipient, stage=attempt.stage)
        for words in (*(meaning or ()), attempt.reply):
            if words:
                click.echo(f"    {words}")
    for why, command in ((entry.no_retry, "retry"), (entry.no_cancel, "cancel"), (entry.no_again, "again")):
        if not why:
            click.echo(f"  possible     bin/keypost outbox {command} {number}")


@group.command("retry")
@click.argument("numbers", nargs=-1, type=NUMBER)
@click.option("--all", "everything", is_flag=True, help="All that match --state, --kind and --search.")
@state_option
@kind_option
@search_option
@as_json
@click.pass_obj
def retry(
    installation: Installation,
    *,
    numbers: tuple[int, ...],
    everything: bool,
    state: str | None,
    kind: str | None,
    q: str,
    as_json: bool,
) -> None:
    """Have messages tried now: those that wait, and those that failed and still have their content."""
    many = _act(
        installation,
        ledger.retry,
        ledger.retry_all,
        numbers=numbers,
        everything=everything,
        wanted=_wanted(state, kind, q),
    )
    _tell(as_json, {"outcome": "queued", "messages": many}, f"Tried at once: {many}.")


@group.command("cancel")
@click.argument("numbers", nargs=-1, type=NUMBER)
@click.option("--all", "everything", is_flag=True, help="All that wait and match --kind and --search.")
@kind_option
@search_option
@as_json
@click.pass_obj
def cancel(
    installation: Installation, *, numbers: tuple[int, ...], everything: bool, kind: str | None, q: str, as_json: bool
) -> None:
    """See to it that messages that wait are never sent."""
    many = _act(
        installation,
        ledger.cancel,
        ledger.cancel_all,
        numbers=numbers,
        everything=everything,
        wanted=_wanted(None, kind, q),
    )
    _tell(as_json, {"outcome": "cancelled", "messages": many}, f"Cancelled, and never sent: {many}.")


@group.command("again")
@click.argument("number", type=NUMBER)
@as_json
@click.pass_obj
def again(installation: Installation, number: int, as_json: bool) -> None:
    """Queue a new message that says what an earlier one said."""
    with installation.database.transaction() as session:
        fresh = ledger.again(session, command_line(), number)
    _tell(as_json, {"outcome": "queued", "id": fresh}, f"Queued as message {fresh}.")


@group.command("ask-now")
@as_json
@click.pass_obj
def ask_now(installation: Installation, as_json: bool) -> None:
    """While mail is paused: have the mail server asked at once."""
    with installation.database.transaction() as session:
        asked = pause.ask_now(session, command_line())
    _tell(as_json, {"paused": asked}, "The server is asked now." if asked else "Mail is not paused.")


@group.command("state")
@as_json
@click.pass_obj
def state(installation: Installation, as_json: bool) -> None:
    """Show whether mail gets out: what waits, who delivers, and why it is paused. Exit status 1 when it does not."""
    with installation.database.reading() as session:
        found, is_set_up = standing(session), settings.current(session) is not None
    why = found.pause
    if as_json:
        paused = why and {
            "since": why.since.isoformat(),
            "code": why.code,
            "cause": why.cause,
            "remedy": why.remedy,
            "server": why.server,
            "reply": why.reply,
            "next_attempt": why.attempt_at.isoformat(),
        }
        click.echo(
            json.dumps(
                {
                    "queued": found.queued,
                    "sending": found.sending,
                    "workers": found.alive,
                    "paused": paused,
                    "set_up": is_set_up,
                }
            )
        )
    else:
        workers = "1 worker" if found.alive == 1 else f"{found.alive} workers"
        click.echo(f"{found.queued} queued, {found.sending} being sent, {workers}.")
        if why:
            click.echo(f"Paused since {_moment(why.since)}: {why.cause}\n{why.remedy}")
            again = relative(why.attempt_at, found.now)
            click.echo(f"The server is asked again {again}; at once with: bin/keypost outbox ask-now")
        elif found.is_deserted:
            click.echo("Nobody delivers. Start bin/serve or bin/keypost worker, or: bin/keypost outbox deliver")
        if not is_set_up:
            click.echo("Mail is not set up yet. Set it up with: bin/keypost mail set")
    if why or found.is_deserted or (found.waiting and not is_set_up):
        raise click.exceptions.Exit(1)


@group.command("deliver")
@as_json
@click.pass_obj
def deliver(installation: Installation, as_json: bool) -> None:
    """Hand over all that is due now, and end. Exit status 1 when something that is due still waits."""
    from webapp.mail.delivery import Delivery  # noqa: PLC0415 - the other commands start without it
    from webapp.trust.store import TrustStore  # noqa: PLC0415

    counts = Delivery(installation.database, TrustStore(installation.database)).deliver_due()
    with installation.database.reading() as session:
        found = standing(session)
        due = ledger.is_something_due(session)
    told = {name: getattr(counts, name) for name in ("accepted", "refused", "deferred")} | {"waiting": found.waiting}
    _tell(as_json, told, ", ".join(f"{number} {name}" for name, number in told.items()) + ".")
    if found.pause and not as_json:
        click.echo(f"Paused: {found.pause.cause}\n{found.pause.remedy}", err=True)
    if due:
        raise click.exceptions.Exit(1)


def _wanted(state: str | None, kind: str | None, q: str) -> Wanted:
    return Wanted(State(state) if state else None, kind or "", q)


def _act(
    installation: Installation,
    one: Callable[[Session, Actor, int], None],
    some: Callable[[Session, Actor, Wanted], int],
    *,
    numbers: tuple[int, ...],
    everything: bool,
    wanted: Wanted,
) -> int:
    """Act on these, or in steps on all that are wanted; gives how many."""
    if bool(numbers) is everything:
        raise click.UsageError("Name messages by their numbers, or say --all.")
    if not everything and wanted != Wanted():
        raise click.UsageError("--state, --kind and --search go with --all.")
    if numbers:
        with installation.database.transaction() as session:
            for number in numbers:
                one(session, command_line(), number)
        return len(numbers)
    total, done = 0, ledger.AT_ONCE
    while done == ledger.AT_ONCE:
        with installation.database.transaction() as session:
            done = some(session, command_line(), wanted)
        total += done
    return total


def _tell(as_json: bool, told: dict[str, Any], sentence: str) -> None:
    click.echo(json.dumps(told) if as_json else sentence)


def _line(message: Message, now: datetime) -> str:
    to = f"{message.recipient_name} <{message.recipient}>" if message.recipient_name else message.recipient
    state = State(message.state).label
    if message.state == State.QUEUED and message.due_at > now:
        state += f", next attempt {relative(message.due_at, now)}"
    if message.code:
        state += f", {message.code}"
    return f"{message.id:>7}  {message.kind} to {to}: {state}; queued {relative(message.queued_at, now)}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _as_dict(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "kind": message.kind,
        "recipient": message.recipient,
        "recipient_name": message.recipient_name,
        "about": message.about,
        "cause": message.cause,
        "state": message.state,
        "attempts": message.attempts,
        "queued_at": message.queued_at.isoformat(),
        "due_at": message.due_at.isoformat(),
        "expires_at": message.expires_at.isoformat(),
        "attempted_at": message.attempted_at and message.attempted_at.isoformat(),
        "ended_at": message.ended_at and message.ended_at.isoformat(),
        "message_id": message.message_id,
        "again_of": message.again_of,
        "code": message.code,
        "stage": message.stage,
        "reply": message.reply,
        "server": message.server,
    }


def _attempt_dict(message: Message, attempt: FailedAttempt) -> dict[str, Any]:
    meaning = meaning_of(attempt.code, server=attempt.server, recipient=message.recipient, stage=attempt.stage)
    return {
        "at": attempt.at.isoformat(),
        "code": attempt.code,
        "stage": attempt.stage,
        "reply": attempt.reply,
        "server": attempt.server,
        "cause": meaning.cause if meaning else "",
        "remedy": meaning.remedy if meaning else "",
    }
