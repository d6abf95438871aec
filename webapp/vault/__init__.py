"""The vault: resources, the accounts on them, and the accounts' sealed passwords with their history."""
