"""What `bin/keypost doctor` looks at: each precondition of a sound installation is one small function."""
