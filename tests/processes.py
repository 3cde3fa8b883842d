"""The command line in real processes: started, read line by line, and always ended."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Found = TypeVar("Found")

#: For whatever a healthy process does within two seconds, on a busy machine.
DEADLINE = 20.0
NUMBER = "+5511999990000"


def environment(**variables: str) -> dict[str, str]:
    """This process's, without settings of ours but the given ones."""
    bare = {key: value for key, value in os.environ.items() if not key.startswith("VOICEBRIDGE_")}
    return bare | {"PYTHONUNBUFFERED": "1", "COLUMNS": "80", "NO_COLOR": "1"} | variables


class Command:
    """``voicebridge`` with these arguments, running."""

    def __init__(self, *arguments: str, cwd: Path, **variables: str) -> None:
        self._lines: list[str] = []
        self._grown = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "voicebridge.cli", *arguments],
            cwd=cwd,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self._lines)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match of ``pattern`` in the output; fails where none comes."""
        with self._grown:
            found = self._grown.wait_for(
                lambda: re.search(pattern, self.output) or not self._reader.is_alive(), DEADLINE
            )
        match = re.search(pattern, self.output)
        assert match, f"no {pattern!r} ({found=}) in:\n{self.output}"
        return match

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def exit_code(self) -> int:
        """Waits for its end."""
        code = self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def end(self) -> None:
        if self.running:
            self._process.kill()
        self._process.wait()
        self._reader.join(DEADLINE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._grown:
                self._lines.append(line)
                self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()


class Line:
    """An emulator in a process of its own, and the variables for a bridge on it."""

    def __init__(self, cwd: Path) -> None:
        self._cwd = cwd
        # Nothing listens at port 9 (discard); `point_at` names the true one.
        self.command = Command(
            "emulator", "--port", "0", "--webhook-url", "http://127.0.0.1:9/webhooks/pilotstatus",
            cwd=cwd,
        )  # fmt: skip
        self.url = self.command.wait_for(r"answers at (http://127\.0\.0\.1:\d+)")[1]
        self.command.wait_for("Ctrl-C ends")
        self.variables = dict(re.findall(r"export (VOICEBRIDGE_\w+)=(\S+)", self.command.output))
        self._http = httpx.Client(
            base_url=self.url,
            headers={"x-api-key": self.variables["VOICEBRIDGE_API_KEY"]},
            timeout=DEADLINE,
            trust_env=False,
        )

    def voicebridge(self, *arguments: str, **variables: str) -> Command:
        return Command(*arguments, cwd=self._cwd, **(self.variables | variables))

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def serve(self, *arguments: str, **variables: str) -> tuple[Command, str]:
        """A bridge that gets this emulator's webhooks, and its address."""
        bridge = self.voicebridge("serve", "--port", "0", *arguments, **variables)
        address = bridge.wait_for(r"ready address=(\S+)")[1]
        (hook,) = self.ask("GET", "/v1/webhooks")
        self.ask("PATCH", f"/v1/webhooks/{hook['id']}", {"url": f"{address}/webhooks/pilotstatus"})
        return bridge, address

    def ring(self) -> str:
        """The id of a call from somebody who says nothing and stays."""
        body = {"hangup_after": None, "audio": None}
        call_id: str = self.ask("POST", "/emulator/calls", body)["id"]
        return call_id

    def call(self, call_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/emulator/calls/{call_id}")
        return found

    def wait_for_call(self, call_id: str, status: str) -> dict[str, Any]:
        return until(
            lambda: call if (call := self.call(call_id))["status"] == status else None,
            f"the call to be {status}",
        )

    def close(self) -> None:
        self._http.close()
        self.command.end()


def until(look: Callable[[], Found | None], what: str) -> Found:
    """Looks until something is there."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        threading.Event().wait(0.02)
    raise AssertionError(f"waited in vain for {what}")


@contextlib.contextmanager
def ended(*commands: Command) -> Iterator[None]:
    """Ends them, whatever happens inside."""
    try:
        yield
    finally:
        for command in commands:
            command.end()
