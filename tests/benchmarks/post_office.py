"""django-post-office with its defaults, as a program: it fills its queue and times its own command that empties it.

Its one argument is JSON: database (Django's DATABASES["default"]), host, port, count, words (subject, text and html),
lock (a file), and for STARTTLS and login ``login``; the authority to trust is in SSL_CERT_FILE. Prints the seconds that
``send_queued_mail`` took. It runs in an environment of its own; nothing of Keypost's is imported.
"""

import json
import sys
import time

import django
from django.conf import settings

given = json.loads(sys.argv[1])
words = given["words"]
username, password = given.get("login") or ("", "")
settings.configure(
    INSTALLED_APPS=["post_office"],
    DATABASES={"default": given["database"]},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    EMAIL_BACKEND="post_office.EmailBackend",
    EMAIL_HOST=given["host"],
    EMAIL_PORT=given["port"],
    EMAIL_USE_TLS=bool(given.get("login")),
    EMAIL_HOST_USER=username,
    EMAIL_HOST_PASSWORD=password,
)
django.setup()

from django.core.management import call_command  # noqa: E402 - needs the settings above
from post_office import mail  # noqa: E402
from post_office.models import STATUS, Email  # noqa: E402

call_command("migrate", verbosity=0)
Email.objects.all().delete()
for start in range(0, given["count"], 1000):
    mail.send_many(
        [
            {
                "recipients": [f"person-{number}@example.test"],
                "sender": "keypost@example.test",
                "subject": words["subject"],
                "message": words["text"],
                "html_message": words["html"],
            }
            for number in range(start, min(start + 1000, given["count"]))
        ]
    )
begun = time.perf_counter()
call_command("send_queued_mail", lockfile=given["lock"], verbosity=0)
seconds = time.perf_counter() - begun
sent = Email.objects.filter(status=STATUS.sent).count()
assert sent == given["count"], f"only {sent} were sent"
print(seconds)
