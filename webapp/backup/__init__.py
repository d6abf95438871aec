"""One file that holds the whole database and never the key; and the way back from it."""
