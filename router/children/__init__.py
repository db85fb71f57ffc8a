"""The parent's side of child processes: template, framed calls, deadlines, supervision."""
