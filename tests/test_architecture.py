"""One door for each danger. The direction of imports is import-linter's part, in pyproject.toml."""

import ast
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
