"""Keypost's own Python environment, made once in `.venv`, and the hand-over to it.

The commands beside this file are thin: each names the requirements it needs (`run`, or `test` which holds `run`) and
what to start. Only the standard library is used, because nothing else is there on the first run. Every failure ends in
one sentence on standard error and exit status 1; standard output belongs to the command that is started.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Keypost needs Python 3.11 or newer, and this is Python {}.{} ({}): install a newer one and start again with "
        "it, for example `python3.12 {}`.".format(*sys.version_info[:2], sys.executable, sys.argv[0])
    )

import contextlib
import hashlib
import json
import os
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent

# What a user's configuration could set to lead the packages elsewhere, or make some look installed already.
MISLEADING = ("PIP_PREFIX", "PIP_TARGET", "PIP_ROOT", "PIP_REQUIREMENT", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")

# One heap for all threads: glibc gives several of them, and what is free in one is of no use to the threads of another,
# so that a process grows for hours. The interpreter lets one thread run at a time, so nobody waits for the heap.
HEAPS = "MALLOC_ARENA_MAX", "1"

CAUSES = (
    (("No space left on device", "os error 28"), "the disk is full: make room and start again"),
    (
        ("DO NOT MATCH THE HASHES", "Hash mismatch"),
        "a downloaded package is not the one Keypost was tested with, so it was refused: look at the package index or "
        "mirror that pip is set up to use",
    ),
    (
        (
            "Failed to establish a new connection",
            "NewConnectionError",
            "NameResolutionError",
            "ConnectTimeout",
            "ReadTimeout",
            "ProxyError",
            "Failed to fetch",
            "error sending request",
            "Network connectivity is disabled",
        ),
        "the package index could not be reached: look at the network or the proxy, and start again",
    ),
    (
        ("No matching distribution found", "no wheels with a matching", "has no usable wheels"),
        "the package index offers no ready-made package for this system and this Python",
    ),
)


def start(requirements: str, module: str, *arguments: str) -> "NoReturn":
    """Make the environment if need be, then become `python -m module arguments` in it.

    `requirements` is "run" or "test". The working directory is kept, and is not searched for modules: Keypost is often
    started by root, from folders in which others may write.
    """
    try:
        python = prepared(ROOT, requirements)
    except KeyboardInterrupt:
        sys.exit("The installation was interrupted; the next start does it again from the beginning.")
    if requirements == "run":  # Tests start browsers and databases too, which have heaps of their own.
        os.environ.setdefault(*HEAPS)
    command = [str(python), "-P", "-m", module, *arguments]
    if os.name == "nt":
        sys.exit(_run_and_wait(command))
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def _run_and_wait(command: list[str]) -> int:
    """Run a command to its end; Windows cannot replace a process by another."""
    import subprocess

    with subprocess.Popen(command) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


def prepared(root: Path, requirements: str) -> Path:
    """Return the Python of `root`/.venv, with every package of requirements/`requirements`.lock installed in it."""
    environment = Environment(root)
    if not environment.is_ready(requirements):
        with environment.alone():
            if not environment.is_ready(requirements):
                environment.make(requirements)
    return environment.python


class Environment:
    """The virtual environment of one copy of Keypost.

    `keypost.json` in it, written last, says for which locks, which Python and which folder it was made. While packages
    are being installed, `installing` stands there instead: found at a start, it tells of an interrupted installation.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.stamp = self.folder / "keypost.json"
        self.installing = self.folder / "installing"
        self.log = self.folder / "install.log"

    def is_ready(self, requirements: str) -> bool:
        """Tell, in about a millisecond, whether nothing is to be done."""
        stamp = self._stamped()
        return self._still_fits(stamp) and stamp.get(requirements) == self._hash(requirements)

    def make(self, requirements: str) -> None:
        """Make or bring up to date the environment; ends the program with a sentence when it cannot."""
        say(f"Installing Keypost's packages in {self.folder} (needed once, about a minute) …")
        try:
            stamp = self._venv()
            self.stamp.unlink(missing_ok=True)
            self.installing.touch()
            self._install(requirements)
            self._make_importable()
            stamp |= {name: self._hash(name) for name in ("run", requirements)}
            self._write_stamp(stamp)
            self.installing.unlink()
        except OSError as error:
            give_up(self._refusal(error))
        except ValueError as error:
            # venv refuses a folder whose name holds the separator of PATH.
            give_up(f"Keypost cannot make its environment in {self.folder}: {error}.")

    @contextlib.contextmanager
    def alone(self) -> "Iterator[None]":
        """Keep other commands from installing at the same time, on this machine; they wait."""
        try:
            self._lock = os.open(self.root / ".venv.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            give_up(self._refusal(error))
        try:
            if not _locked(self._lock, wait=False):
                say("Another command is installing Keypost's packages; waiting for it …")
                _locked(self._lock, wait=True)
            yield
        finally:
            os.close(self._lock)

    def _stamped(self) -> dict[str, str]:
        try:
            stamp = json.loads(self.stamp.read_bytes())
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) else {}

    def _still_fits(self, stamp: dict[str, str]) -> bool:
        """Tell whether the stamp speaks of this folder, and of the Python that `.venv` leads to today.

        An upgrade of the system can put another Python behind the same name, and a copied folder's scripts lead back
        to the folder they were copied from.
        """
        python = os.path.realpath(self.python)
        if stamp.get("folder") != str(self.folder) or stamp.get("python") != python or not os.access(python, os.X_OK):
            return False
        return python != os.path.realpath(_base()) or stamp.get("version") == version()

    def _hash(self, requirements: str) -> str:
        # The test lock is to be installed again when the run lock changes: both fill the same environment.
        names = ["run"] if requirements == "run" else ["run", requirements]
        try:
            locks = [(self.root / "requirements" / f"{name}.lock").read_bytes() for name in names]
        except OSError as error:
            give_up(f"Keypost's folder is not complete: {error.filename} cannot be read ({error.strerror}).")
        return hashlib.sha256(b"\0".join(locks)).hexdigest()

    def _venv(self) -> dict[str, str]:
        """Make `.venv` anew, unless a usable one is there, and return the stamp's first part."""
        import venv

        stamp = self._stamped()
        if (stamp and not self._still_fits(stamp)) or self.installing.exists() or self._version_inside() is None:
            venv.EnvBuilder(clear=True, symlinks=os.name != "nt", with_pip=False).create(self.folder)
            stamp = {}
        inside = self._version_inside()
        if inside is None:
            give_up(f"The Python in {self.folder} does not start: remove that folder and start again.")
        kept = {"run": stamp["run"]} if "run" in stamp else {}
        return kept | {"folder": str(self.folder), "python": os.path.realpath(self.python), "version": inside}

    def _version_inside(self) -> str | None:
        """Return the version of the Python in `.venv`, or None if there is none that Keypost can use."""
        script = "import sys; sys.prefix != sys.base_prefix and print('%d.%d' % sys.version_info[:2])"
        found = _output([str(self.python), "-I", "-c", script]) or ""
        numbers = tuple(int(part) for part in found.split(".") if part.isdigit())
        return found if numbers >= (3, 11) else None

    def _install(self, requirements: str) -> None:
        lock = str(self.root / "requirements" / f"{requirements}.lock")
        ways = list(_installers(str(self.python)))
        if not ways:
            give_up(
                "Keypost needs pip to install its packages, and this Python has none: install it (on Debian and "
                "Ubuntu `apt-get install python3-pip`, elsewhere `python3 -m ensurepip`) and start again."
            )
        said = ""
        for way in ways:
            succeeded, said = self._attempt([*way, "--require-hashes", "--only-binary", ":all:", "-r", lock])
            if succeeded:
                return
        give_up(f"Keypost's packages could not be installed: {cause(said)}. The whole story is in {self.log}.")

    def _attempt(self, command: list[str]) -> tuple[bool, str]:
        """Run an installer; return whether it succeeded, and what it said."""
        import subprocess

        surroundings = {name: value for name, value in os.environ.items() if name not in MISLEADING}
        with self.log.open("a", encoding="utf-8") as log:
            result = subprocess.run(
                command,
                env=surroundings | {"PIP_USER": "0"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
                # The installer holds the lock too, should this process be killed before it.
                pass_fds=() if os.name == "nt" else (self._lock,),
            )
            print(*command, "\n", result.stdout, file=log)
        return result.returncode == 0, result.stdout

    def _make_importable(self) -> None:
        """Let the environment's Python find Keypost from every working directory."""
        packages = _output([str(self.python), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        if packages:
            Path(packages, "keypost.pth").write_text(f"{self.root}\n", encoding="utf-8")

    def _write_stamp(self, stamp: dict[str, str]) -> None:
        fresh = self.stamp.with_suffix(".new")
        fresh.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
        fresh.replace(self.stamp)

    def _refusal(self, error: OSError) -> str:
        what = error.filename or self.folder
        if isinstance(error, PermissionError) or error.strerror == "Read-only file system":
            return (
                f"Keypost keeps its packages in {self.folder}, and {what} cannot be written by you: start it once as "
                f"the user who owns {self.root}, or give that folder to the user who runs Keypost."
            )
        return f"Keypost's packages could not be installed in {self.folder}: {error.strerror} ({what})."


def _locked(descriptor: int, *, wait: bool) -> bool:
    """Take the lock on an open file and tell whether it was had; closing the file frees it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # LK_LOCK itself gives up after ten seconds.
            while wait:
                with contextlib.suppress(OSError):
                    msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
                    return True
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _installers(python: str) -> "Iterator[list[str]]":
    """Yield the installing commands at hand, best first; they differ in speed only."""
    import shutil

    uv = shutil.which("uv")
    if uv:
        yield [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-warn-script-location"]
    for candidate in dict.fromkeys((_base(), sys.executable)):
        if _output([candidate, "-m", "pip", "--version"]):
            yield [candidate, "-m", "pip", "--python", python, "install", *options]
            return
    if _output([python, "-I", "-m", "ensurepip"]):
        yield [python, "-m", "pip", "install", *options]


def _output(command: list[str]) -> str | None:
    """Return what a command prints, stripped, or None if it fails or cannot be started."""
    import subprocess

    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _base() -> str:
    """Return the Python outside every virtual environment; the one that runs may be in `.venv` itself."""
    return str(getattr(sys, "_base_executable", sys.executable))


def version() -> str:
    """Return the version of the Python that runs, as far as installed packages depend on it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def cause(said: str) -> str:
    """Turn an installer's own words into one that a person can act on."""
    for signs, sentence in CAUSES:
        if any(sign in said for sign in signs):
            return sentence
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ").rstrip(".") if lines else "the installer ended without a word"


def say(sentence: str) -> None:
    """Tell the person at the terminal what takes time."""
    print(sentence, file=sys.stderr, flush=True)


def give_up(sentence: str) -> "NoReturn":
    """End the program with one sentence and status 1."""
    sys.exit(sentence)
