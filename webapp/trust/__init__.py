"""X.509: which certificates mail connections trust."""
