"""`python -m bootstrap`, and the entry point of the console script.

Signals are handled before the rest of the program is imported, which takes a tenth of a second:
one that comes meanwhile ends the run with 143 as soon as it starts.
"""

from .process import stop_signal

stop_signal.listen()

from .cli import main  # noqa: E402 - see above

if __name__ == "__main__":
    raise SystemExit(main())
