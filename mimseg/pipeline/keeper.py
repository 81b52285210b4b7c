"""Keeps a step's command from outliving its runner.

    python keeper.py PARENT_PID COMMAND...

The command runs in a process group of its own. When the keeper gets a signal, or its parent dies in
any way (SIGKILL too, by Linux's parent-death signal), it stops the whole group. It inherits the
runner's lock, so a work dir counts as taken until the last command in it is gone. Run by path, and
free of the package, to start at once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
GRACE = 5.0  # seconds between SIGTERM and SIGKILL


def die_with_parent(signum: int) -> None:
    """Ask Linux for `signum` when the parent dies; elsewhere a killed runner leaves its steps."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signum)


def start(argv: list[str], parent_lock: int | None, **popen) -> subprocess.Popen:
    """Start `argv` under a keeper. Stop it with `terminate()` on what this returns.

    Args:
        parent_lock: file descriptor of the runner's lock, kept open by the keeper.
        popen: further arguments of `subprocess.Popen`: cwd, env, stdout, stderr.
    """
    keeper = [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid())]
    fds = () if parent_lock is None else (parent_lock,)
    # a session of its own: Ctrl-C in the terminal reaches the runner alone, which then stops us
    return subprocess.Popen(
        [*keeper, *argv], stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=fds, **popen
    )


def main(argv: list[str]) -> int:
    parent, command = int(argv[1]), argv[2:]
    stops = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # until the handler knows the child
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        return 128 + signal.SIGTERM
    keeper = os.getpid()

    def in_child() -> None:
        die_with_parent(signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        if os.getppid() != keeper:
            os._exit(1)

    try:
        child = subprocess.Popen(command, start_new_session=True, preexec_fn=in_child)
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", file=sys.stderr)
        return 127

    def kill_group(signum: int) -> None:
        try:
            os.killpg(child.pid, signum)
        except ProcessLookupError:
            pass

    def stop(signum, frame) -> None:
        if signum == signal.SIGALRM:
            kill_group(signal.SIGKILL)
        else:
            kill_group(signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, GRACE)

    for signum in (*stops, signal.SIGALRM):
        signal.signal(signum, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
    # the zombie keeps the group's number ours while stragglers are killed
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    kill_group(signal.SIGKILL)
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
