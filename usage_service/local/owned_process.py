"""Command that dies with its parent: `python -m usage_service.local.owned_process [options] -- COMMAND ARGS`.

The kernel sends the death signal when the *thread* that forked ends, not the process: spawn owned processes from the
main thread. Where the kernel has no such signal (macOS) the command runs all the same, but outlives its parent.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

NOBODY = 65534
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


def owned_command(
    argv: Sequence[str],
    *,
    unprivileged: bool = False,
    death_signal: signal.Signals = signal.SIGTERM,
    directory: Path | None = None,
) -> list[str]:
    """Return the argv that runs `argv` (its first item an absolute path) until this process, the parent, is gone.

    The process id stays: the command replaces the wrapper. `unprivileged` makes it run as an ordinary user with a name:
    root becomes the owner of `directory`. When the owner is root too, the command runs as another user inside a user
    namespace or, without namespaces, as `nobody`, who is then given the directory.
    """
    options = ["--parent", str(os.getpid()), "--signal", death_signal.name.removeprefix("SIG")]
    options += ["--unprivileged"] if unprivileged else []
    options += ["--directory", str(directory)] if directory else []
    # By path and isolated: no site-packages to scan, and nothing in the working directory can be imported by mistake.
    return [sys.executable, "-I", "-S", __file__, *options, "--", *argv]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Replace this process by the command; exit with one line on stderr when that is impossible."""
    options = _parse(argv)
    try:
        if options.unprivileged:
            _become_ordinary(options.directory)
        _reset_signals()
        _die_with(options.parent, signal.Signals[f"SIG{options.signal}"])
        os.execv(options.command[0], options.command)
    except OSError as error:
        sys.exit(f"cannot run {options.command[0]}: {error}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="owned_process", allow_abbrev=False)
    parser.add_argument("--unprivileged", action="store_true", help="give up root")
    parser.add_argument("--directory", type=Path, help="a directory the unprivileged command must own")
    parser.add_argument("--signal", default="TERM", help="sent to the command when its parent is gone")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="exit at once if it is another")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(argv)
    if f"SIG{options.signal}" not in signal.Signals.__members__:
        parser.error(f"unknown signal {options.signal}")
    return options


def _become_ordinary(directory: Path | None) -> None:
    user = os.geteuid()
    owner = directory.stat().st_uid if directory else user
    needs_namespace = owner == 0 if user == 0 else not _has_name(user)
    if needs_namespace and _namespaces_are_permitted():
        _enter_user_namespace()
    elif user == 0:
        _change_user(directory, owner or NOBODY)


def _change_user(directory: Path | None, user: int) -> None:
    if directory and directory.stat().st_uid != user:
        _give(directory, user)
    os.setgroups([])
    os.setgid(pwd.getpwuid(user).pw_gid if _has_name(user) else user)
    os.setuid(user)


def _has_name(user: int) -> bool:
    try:
        return bool(pwd.getpwuid(user).pw_name)
    except KeyError:
        return False


def _named_id() -> int:
    # PostgreSQL's initdb refuses an id without a name; nobody's is also what a namespace shows for foreign files.
    return next((entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid not in (0, NOBODY)), NOBODY)


def _namespaces_are_permitted() -> bool:
    # Tried in a child: a process that entered a namespace and then may not map its id cannot come back.
    child = os.fork()
    if child == 0:
        try:
            _enter_user_namespace()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _enter_user_namespace() -> None:
    """Become an ordinary user inside a new namespace, the same user outside; files keep their owner without a chown."""
    inside, user, group = _named_id(), os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        raise OSError("this system has no user namespaces")
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{inside} {group} 1")


def _give(directory: Path, owner: int) -> None:
    os.lchown(directory, owner, owner)
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.lchown(Path(parent, name), owner, owner)


def _reset_signals() -> None:
    # Python ignores SIGPIPE and a shell's background jobs ignore SIGINT; exec would hand both on.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _die_with(parent: int, death_signal: signal.Signals) -> None:
    # Last, because a change of credentials clears it.
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl") and libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent is gone already")


if __name__ == "__main__":
    main()
