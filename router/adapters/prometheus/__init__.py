"""Events in, Prometheus and OpenMetrics text out.

Values are held here rather than in prometheus_client's metric classes: those export `_created` unless a
switch of the whole process says otherwise, take a lock per observation, and render 450 series in 3 to 5 ms
of the event loop's time.

`catalog` says what exists, `store` holds it by labels and writes it, `recorder` says which event moves what
and when series come and go. Everything runs on the event loop; nothing here is safe to call from another
thread.
"""
