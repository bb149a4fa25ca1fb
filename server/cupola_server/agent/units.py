"""Units that start the agent at login, for systemd, launchd and the Task Scheduler. Only systemd's has been tried."""

import plistlib
import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

LABEL = "cupola.service"
"""The name of the launchd job."""

_MARGIN_S = 10
_PLAIN = re.compile(r"[\w./:=@+,-]+")


def systemd_unit(command: Sequence[str], *, drain_timeout_s: float) -> str:
    """Return a unit for systemd's user manager.

    Args:
        command: The command that runs the agent.
        drain_timeout_s: How long running requests may take to finish when it stops.
    """
    return f"""\
[Unit]
Description=Cupola, language models on this machine
StartLimitIntervalSec=60
StartLimitBurst=3

[Service]
Type=exec
ExecStart={" ".join(map(_quote_systemd, command))}
Restart=on-failure
RestartSec=2
# Models run in separate processes, which the service stops itself after their requests.
KillMode=mixed
TimeoutStopSec={drain_timeout_s + _MARGIN_S:g}

[Install]
WantedBy=default.target
"""


def launchd_plist(command: Sequence[str], *, drain_timeout_s: float) -> str:
    """Return a property list for a macOS LaunchAgent. The arguments are those of `systemd_unit`."""
    job = {
        "Label": LABEL,
        "ProgramArguments": list(command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ExitTimeOut": round(drain_timeout_s) + _MARGIN_S,
        "ProcessType": "Interactive",  # other types are throttled
    }
    return plistlib.dumps(job, sort_keys=False).decode()


def scheduled_task(command: Sequence[str]) -> str:
    """Return a task for the Windows Task Scheduler, in XML."""
    program, *words = command
    arguments = " ".join(map(_quote_windows, words))
    return f"""\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>Cupola, language models on this machine</Description></RegistrationInfo>
  <Triggers><LogonTrigger><Enabled>true</Enabled></LogonTrigger></Triggers>
  <Principals>
    <Principal id="Author">
      <LogonType>InteractiveToken</LogonType><RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure><Interval>PT1M</Interval><Count>3</Count></RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec><Command>{escape(program)}</Command><Arguments>{escape(arguments)}</Arguments></Exec>
  </Actions>
</Task>
"""


def _quote_systemd(word: str) -> str:
    """Quote a word as described in systemd.syntax(7), where % and $ are special too."""
    word = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quote_windows(word: str) -> str:
    """Quote a word as Windows programs parse their command line."""
    if word and not re.search(r'[\s"]', word):
        return word
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), word) + '"'
