"""What systems want to be told to start the agent when its user logs in. Only systemd's is tried out so far."""

import plistlib
import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

LABEL = "cupola.service"
"""The job's name under launchd."""

_MARGIN_S = 10
_PLAIN = re.compile(r"[\w./:=@+,-]+")


def systemd_unit(command: Sequence[str], *, drain_timeout_s: float) -> str:
    """Return a unit for systemd's user manager.

    Args:
        command: How the agent is run.
        drain_timeout_s: The time that running answers have to end when it stops.
    """
    return f"""\
[Unit]
Description=Cupola, language models on this machine
StartLimitIntervalSec=60
StartLimitBurst=3

[Service]
Type=exec
ExecStart={" ".join(map(_systemd_word, command))}
Restart=on-failure
RestartSec=2
# Models run in processes of their own, which the service ends itself once their answers are complete.
KillMode=mixed
TimeoutStopSec={drain_timeout_s + _MARGIN_S:g}

[Install]
WantedBy=default.target
"""


def launchd_plist(command: Sequence[str], *, drain_timeout_s: float) -> str:
    """Return a property list for a LaunchAgent of macOS. Takes what `systemd_unit` takes."""
    job = {
        "Label": LABEL,
        "ProgramArguments": list(command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ExitTimeOut": round(drain_timeout_s) + _MARGIN_S,
        "ProcessType": "Interactive",  # anything else is slowed down
    }
    return plistlib.dumps(job, sort_keys=False).decode()


def scheduled_task(command: Sequence[str]) -> str:
    """Return a task for the Task Scheduler of Windows, in XML."""
    program, *words = command
    arguments = " ".join(map(_windows_word, words))
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


def _systemd_word(word: str) -> str:
    """Quote a word as systemd.syntax(7) has it, where % and $ have meanings too."""
    word = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _windows_word(word: str) -> str:
    """Quote a word as programs of Windows take their command line apart."""
    if word and not re.search(r'[\s"]', word):
        return word
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), word) + '"'
