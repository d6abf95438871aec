"""A presented certificate as a person is asked about it: what it is, why it was refused, what trusting it means."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from webapp.i18n import gettext as _
from webapp.mail.diagnosis import Diagnosis
from webapp.mail.transport import DEFAULT_PORTS, Security, Server
from webapp.trust.seen import Offer

_CURED_BY_TRUST: Final = frozenset({"certificate-self-signed", "certificate-untrusted", "certificate-name-mismatch"})


@dataclass(frozen=True, slots=True)
class Exhibit:
    """What ``server`` presented. diagnosis: of the test that refused it, None when it is shown once more later."""

    server: Server
    offer: Offer
    diagnosis: Diagnosis | None = None

    @property
    def why(self) -> str:
        """Why it was refused, as a sentence; "" when that is not known any more."""
        return self.diagnosis.cause if self.diagnosis and self._is_to_blame else ""

    @property
    def obstacle(self) -> str:
        """Why it cannot be trusted here, as a sentence; "" when it can."""
        if self.offer.obstacle:
            return self.offer.obstacle
        if self.diagnosis is None or self.diagnosis.code in _CURED_BY_TRUST:
            return ""
        if self._is_to_blame:
            return _("Trusting it would not help. %(remedy)s", remedy=self.diagnosis.remedy)
        return _("The test did not fail because of this certificate, so trusting it would not help.")

    @property
    def command(self) -> str:
        """The line that does the same at a command line."""
        host = f"[{self.server.name}]" if ":" in self.server.name else self.server.name
        usual = Security.SSL if self.server.port == DEFAULT_PORTS[Security.SSL] else Security.TLS
        mode = "" if self.server.security is usual else f" --security {self.server.security.value}"
        return f"bin/importCert {shlex.quote(f'{host}:{self.server.port}')}{mode}"

    @property
    def _is_to_blame(self) -> bool:
        return self.diagnosis is not None and self.diagnosis.code.startswith("certificate-")
