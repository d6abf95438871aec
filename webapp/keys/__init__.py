"""The terms of the data keys: a new one begins, everything is sealed anew, the old one is destroyed."""
