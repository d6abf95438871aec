"""One door for each danger. The direction of imports is import-linter's part, in pyproject.toml."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def files_where(guilty: Callable[[ast.AST], bool]) -> set[str]:
    """The files of webapp/ that hold a piece of code which `guilty` recognises."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "webapp").rglob("*.py")
        if any(guilty(node) for node in ast.walk(ast.parse(path.read_bytes())))
    }


def imports(node: ast.AST, *modules: str) -> bool:
    """Tell whether an import, in any of its forms, reaches one of the modules or what lies in them."""
    match node:
        case ast.Import():
            names = [alias.name for alias in node.names]
        case ast.ImportFrom(module=str(module), level=0):
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        case _:
            return False
    return any(f"{name}.".startswith(f"{module}.") for name in names for module in modules)


def commits(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"


def test_only_the_mail_package_speaks_smtp() -> None:
    found = files_where(lambda node: imports(node, "smtplib"))
    assert {name for name in found if not name.startswith("webapp/mail/")} == set()


def test_only_the_keyring_encrypts() -> None:
    ciphers = ("cryptography.hazmat.primitives.ciphers", "cryptography.fernet")
    assert files_where(lambda node: imports(node, *ciphers)) == {"webapp/keyring.py"}


def test_only_the_database_module_commits() -> None:
    assert files_where(commits) == {"webapp/db.py"}


def calls(node: ast.AST, *names: str) -> bool:
    """Tell whether a function or method of one of these names is called."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in names


def test_no_text_becomes_markup_or_a_template() -> None:
    guilty = ("render_template_string", "from_string", "Template")
    assert files_where(lambda node: calls(node, *guilty)) == set()
    # Sentences of the templates; tests/test_translations.py insists that each is written out.
    assert files_where(lambda node: calls(node, "Markup")) == {"webapp/i18n.py"}
    pages = [path.read_text() for path in (ROOT / "webapp" / "templates").rglob("*.*")]
    assert len(pages) > 50
    assert not [page for page in pages if re.search(r"\|\s*safe\b|autoescape\s+false", page)]


def test_only_our_own_words_are_formats() -> None:
    formats = files_where(lambda node: calls(node, "format", "format_map", "vformat"))
    assert formats == {
        "webapp/__init__.py",  # the Content-Security-Policy
        "webapp/db.py",  # the place of a seal, as the model says it
        "webapp/identity/throttle.py",  # the sentence of a limit
    }


def test_attributes_of_htmx_hold_addresses_of_ours_and_nothing_that_was_typed() -> None:
    filled_in = {
        expression.strip()
        for path in (ROOT / "webapp" / "templates").rglob("*.html")
        for value in re.findall(r"""\shx-[\w:-]+=("[^"]*"|'[^']*')""", path.read_text())
        for expression in re.findall(r"\{\{(.*?)\}\}", value)
    }
    others = {each for each in filled_in if not each.startswith("url_for(")}
    assert others == {"account.id", "version or 0", "nonce()", "people"}  # Numbers, a nonce, and an address of ours.


def test_connections_go_out_through_one_door() -> None:
    """What is connected to, and why, is listed in docs/operations.md."""
    names = ("getaddrinfo", "create_connection", "gethostbyname", "urlopen", "open_connection")
    assert files_where(lambda node: calls(node, *names)) == {
        "webapp/cli/serve.py",  # where to listen
        "webapp/mail/dial.py",
    }
    assert files_where(lambda node: imports(node, "urllib.request", "smtplib", "ftplib", "asyncio")) == set()
    assert files_where(lambda node: imports(node, "http.client")) == {
        "webapp/mail/access_url.py",  # whether the Access URL leads here
        "webapp/mail/fetch.py",
        "webapp/mail/oauth.py",  # a token for the mail server
    }
