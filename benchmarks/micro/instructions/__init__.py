"""Instructions for each message, counted by callgrind: `make instructions`; see README.md two levels up."""
