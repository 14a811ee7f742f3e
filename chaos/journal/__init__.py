"""The journal: typed events, one append-only file per writer, merged into one history."""
