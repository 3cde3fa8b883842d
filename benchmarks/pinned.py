"""Runs a program on one core: ``python -m benchmarks.pinned CORE PROGRAM [ARGUMENT ...]``.

PROGRAM is ``voicebridge:stock`` or ``voicebridge:uvloop`` (the command line on that event
loop) or a module of this package. The core is set before anything starts a thread, and the
program does not outlive the process that started it, however that one ends.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    core, program, *arguments = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, {int(core)})
    module, _, loop = program.partition(":")
    if loop == "stock":
        # Where uvloop is installed `serve` takes it; an import that fails turns that off.
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
