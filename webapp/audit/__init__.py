"""The audit trail: who did what, from where, with which outcome, and never a secret."""
