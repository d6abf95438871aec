"""smtplib by itself, as a program: what a mail costs without a queue, a database or a second thread.

Its one argument is JSON: host, port, count, message (a file's bytes), words (subject, text and html), way, and for
STARTTLS authority (a file) and login. way: ``ready`` sends ready bytes over one connection, ``built`` builds an
EmailMessage for each, ``apart`` opens a connection for each. Prints the seconds it took.
"""

import json
import smtplib
import ssl
import sys
import time
from email.message import EmailMessage
from pathlib import Path

SENDER = "keypost@example.test"
given = json.loads(sys.argv[1])
content = Path(given["message"]).read_bytes()
words = given["words"]


def connect():
    client = smtplib.SMTP(given["host"], given["port"], timeout=30)
    if given.get("authority"):
        client.starttls(context=ssl.create_default_context(cafile=given["authority"]))
        client.login(*given["login"])
    return client


def build(recipient):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, recipient, words["subject"]
    message.set_content(words["text"])
    message.add_alternative(words["html"], subtype="html")
    return message


begun = time.perf_counter()
client = connect()
for number in range(given["count"]):
    recipient = f"person-{number}@example.test"
    if given["way"] == "apart" and number:
        client.quit()
        client = connect()
    if given["way"] == "built":
        client.send_message(build(recipient), SENDER, [recipient])
    else:
        client.sendmail(SENDER, [recipient], content)
client.quit()
print(time.perf_counter() - begun)
