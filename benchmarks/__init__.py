"""Speed and memory of the gateway beside `mlflow models serve`, in one run: `python -m benchmarks`.

Start at `plan` (what is measured, for how long) and `bars` (what we owe); `session` does it in order.
"""
