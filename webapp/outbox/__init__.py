"""The ledger of messages: a row commits together with the change that caused it, and is never lost after."""
