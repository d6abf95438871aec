"""All tables in one place, so that the migrations and the tests know each of them."""

from webapp.audit import trail
from webapp.db import Base
from webapp.identity import (
    forgotten,
    imports,
    links,
    passkeys,
    policy,
    preferences,
    quota,
    recovery,
    sessions,
    setup,
    submissions,
    throttle,
    totp,
    users,
)
from webapp.installation import InstallationRow
from webapp.mail import checks, ending, former, rewording, settings
from webapp.outbox import keeping, messages, pause, workers
from webapp.trust import seen, store
from webapp.vault import accounts, resources, rights, shares
from webapp.vault import imports as resource_imports

__all__ = ["InstallationRow", "accounts", "checks", "ending", "forgotten", "former", "imports", "keeping", "links"]
__all__ += ["messages", "metadata", "passkeys", "pause", "policy", "preferences", "quota", "recovery", "resources"]
__all__ += ["rewording", "rights", "seen", "sessions", "settings", "setup", "shares", "store", "throttle", "totp"]
__all__ += ["resource_imports", "submissions", "trail", "users", "workers"]

metadata = Base.metadata
