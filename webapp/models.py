"""All tables in one place, so that the migrations and the tests know each of them."""

from webapp.audit import trail
from webapp.db import Base
from webapp.identity import links, sessions, setup, users
from webapp.installation import InstallationRow
from webapp.mail import checks, settings
from webapp.trust import seen, store
from webapp.vault import accounts, resources

__all__ = ["InstallationRow", "accounts", "checks", "links", "metadata", "resources", "sessions", "settings", "setup"]
__all__ += ["seen", "store", "trail", "users"]

metadata = Base.metadata
