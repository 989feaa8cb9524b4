"""Kernels, started ahead of need so that the imports of the next notebook fill the time a core would idle."""

from __future__ import annotations

import os
import queue
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from fairlift.book import kernel as program

# What a kernel may see of the environment: no secret of the shell reaches a notebook.
_PASS = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "TEMP",
    "TMP",
    "SYSTEMROOT",
    "USERPROFILE",
    "APPDATA",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
)
_PASS_PREFIX = ("LC_", "PYTHON", "FAIRLIFT_", "COVERAGE_")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Kernel:
    """One kernel process and how long it took to get ready (seconds)."""

    def __init__(self, environment: dict[str, str]):
        import subprocess

        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import KernelManager

        self.seconds = 0.0
        self.clients = []
        self.manager = KernelManager(client_class="jupyter_client.asynchronous.AsyncKernelClient")
        self._make = self.manager.client
        self.manager.client = self._remembered
        # The interpreter that runs this, whatever kernels are installed elsewhere.
        command = [sys.executable, "-P", program.__file__, "-f", "{connection_file}"]
        self.manager._kernel_spec = KernelSpec(argv=command, display_name="Python 3", language="python")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.manager.start_kernel(env=environment | {program.BEGAN: str(time.monotonic())}, **quiet)

    def _remembered(self, **given):
        """A client that is closed with the kernel; the notebook's runner leaves its own open."""
        self.clients.append(self._make(**given))
        return self.clients[-1]

    def enter(self, folder: Path) -> None:
        """Wait until the kernel answers and move it into `folder`."""
        client = self.manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=120)
        move = f"import os; os.chdir({str(folder)!r}); del os"
        asked = {"seconds": f"__import__('os').environ[{program.START!r}]"}
        sent = client.execute(move, silent=True, user_expressions=asked)
        reply = self._reply(client, sent)
        client.stop_channels()
        self.seconds = float(reply["content"]["user_expressions"]["seconds"]["data"]["text/plain"].strip("'"))

    def _reply(self, client, sent: str) -> dict:
        """The answer to a request; gives up as soon as the process has ended, as Ctrl-C may end it meanwhile."""
        while self.manager.is_alive():
            try:
                reply = client.get_shell_msg(timeout=1)
            except queue.Empty:
                continue
            if reply["parent_header"].get("msg_id") == sent:
                return reply
        raise RuntimeError("the run is over")

    def stop(self) -> None:
        """End the process at once."""
        for client in self.clients:
            client.stop_channels()
        self.manager.shutdown_kernel(now=True)


class Pool:
    """At most `jobs` spare kernels, and all kernels ended when the block is left, whatever happened in it."""

    def __init__(self, jobs: int):
        self.jobs = jobs
        self.left = 0
        self._spare: deque[Kernel] = deque()
        self._used: set[Kernel] = set()
        self._guard = threading.Lock()
        self._closed = False
        self._scratch = tempfile.TemporaryDirectory(prefix="fairlift-", ignore_cleanup_errors=True)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_exc) -> None:
        with self._guard:
            self._closed = True
            kernels = [*self._spare, *self._used]
            self._spare.clear()
            self._used.clear()
        for kernel in kernels:
            kernel.stop()
        self._scratch.cleanup()

    def take(self, folder: Path) -> Kernel:
        """A kernel that is ready, in `folder`; a spare one for the next taker is started as soon as it is."""
        with self._guard:
            self.left -= 1
            kernel = self._spare.popleft() if self._spare else self._start()
            self._used.add(kernel)
        kernel.enter(folder)
        with self._guard:
            if not self._closed and len(self._spare) < min(self.jobs, self.left):
                self._spare.append(self._start())
        return kernel

    def give_back(self, kernel: Kernel) -> None:
        """End a kernel; each serves one notebook only."""
        with self._guard:
            if kernel not in self._used:
                return
            self._used.discard(kernel)
        kernel.stop()

    def _start(self) -> Kernel:
        if self._closed:
            raise RuntimeError("the run is over")
        return Kernel(self._environment())

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in _PASS or name.startswith(_PASS_PREFIX)}
        fixed = dict.fromkeys(_ONE_THREAD, "1")
        fixed |= {"IPYTHONDIR": self._scratch.name, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
        fixed |= {"PYTHONHASHSEED": "0", "TZ": "UTC", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        return kept | fixed
