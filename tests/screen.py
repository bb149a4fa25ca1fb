"""A pseudo-terminal with a program in it, for tests to type into and to read from. Not on Windows."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

# A process gets Ctrl+C only from the terminal that controls it.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Screen:
    """Types into a pseudo-terminal and reads what appears on it."""

    def __init__(self, machine, *words):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        command = [sys.executable, "-c", TAKE_TERMINAL, *machine.command(*words)]
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, **machine.environment},
        )
        os.close(slave)
        self.unread = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def see(self, text):
        """Read until a text has appeared and return what came before it."""
        while text not in self.unread:
            try:
                data = os.read(self.master, 4096)
            except OSError as error:  # how Linux reports that the program has gone
                raise AssertionError(f"never saw {text!r}, only {self.unread!r}") from error
            if b"\x1b[6n" in data:  # prompt_toolkit asks where the cursor is
                os.write(self.master, b"\x1b[1;1R")
            self.unread = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.unread + data.decode(errors="replace"))
        before, _, self.unread = self.unread.partition(text)
        return before

    def echoes(self):
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    def wait(self):
        self.see_the_end()
        return self.process.wait(timeout=30)

    def see_the_end(self):
        try:
            while os.read(self.master, 4096):
                pass
        except OSError:
            return

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
