"""Child processes: how they are started, watched and ended; both halves of each."""
