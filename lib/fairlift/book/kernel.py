"""The process a notebook runs in: heavy imports first, and faults reported without any value.

Started as `python -P .../kernel.py -f CONNECTION`, as a file and not as a module, so that the rest of `fairlift.book` is not
imported first.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time

from fairlift.errors import FairliftError, safe_trace

DEBUG = "FAIRLIFT_DEBUG"
BEGAN = "FAIRLIFT_KERNEL_BEGAN"  # when this process was asked for
START = "FAIRLIFT_KERNEL_SECONDS"  # how long it then took to get ready, for whoever asks it


def report(error: BaseException) -> dict[str, str]:
    """What may be said of a fault in a notebook: our own messages as they are, of others only the type and the frames.

    >>> report(ValueError("jane@example.org"))["reason"]
    'ValueError'
    """
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    ours = isinstance(error, FairliftError)
    reason = str(error) if ours else "there is no space left on the disk" if full else type(error).__name__
    frames = re.sub(r"\S*ipykernel_\d+/\d+\.py", "cell", safe_trace(error))
    return {"reason": reason, "ours": ours or full, "frames": frames}


def _show(shell, kind, error, trace, tb_offset=None) -> list[str]:
    lines = [json.dumps(report(error))]
    if os.environ.get(DEBUG):
        lines += shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset=tb_offset)
    shell._showtraceback(kind, error, lines)
    return lines


def main() -> None:
    """Import what almost every notebook needs, then serve."""
    import matplotlib.pyplot
    import pandas  # noqa: F401
    import seaborn  # noqa: F401
    from ipykernel.kernelapp import IPKernelApp

    import fairlift.evidence
    import fairlift.study  # noqa: F401

    matplotlib.pyplot.switch_backend("module://matplotlib_inline.backend_inline")
    app = IPKernelApp.instance()
    app.log_level = 50
    app.initialize()
    app.shell.history_manager.enabled = False
    app.shell.set_custom_exc((BaseException,), _show)
    os.environ[START] = str(time.monotonic() - float(os.environ[BEGAN]))
    app.start()


if __name__ == "__main__":
    main()
