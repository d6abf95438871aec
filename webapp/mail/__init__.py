"""Mail: settings, the one road to a server, the staged test, its diagnosis, the message, delivery."""
