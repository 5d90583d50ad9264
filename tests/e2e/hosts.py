"""Hosts on one machine: each has network, processes, mounts, hostname, /root, /tmp, /run and /dev/shm of its own, and
Debian's sshd. They share this machine's programs, clock and cores.

The namespaces have no names, so nothing of a host is left once its first process is gone; and that ends when the pipe
from this process does, however this process ends. Hosts reach each other by a bridge in the operator's namespace, and
nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NET = "10.77.0"
OPERATOR = f"{NET}.1"
PROGRAMS = ("ip", "unshare", "nsenter", "ssh", "ssh-keygen", "sshd", "rsync", "bash", "mount", "git")
PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COVERED = (Path("/root"), Path("/tmp"))  # a host has its own
FIRST_PROCESS = """
set -eu
hostname "$1"
while read -r kind from to; do
    case $kind in
        bind) mount --rbind "$from" "$to" ;;
        fresh) mount -t tmpfs "$from" "$to" ;;
        end) break ;;
    esac
done
mkdir -p /run/sshd
ip link set lo up
if [ -e /root/.host/sshd_config ]; then
    $(command -v sshd) -D -e -f /root/.host/sshd_config </dev/null >>/root/.host/sshd.log 2>&1 &
fi
echo up
read -r _ || true
"""
SSHD = """
HostKey /root/.host/key
AuthorizedKeysFile /root/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
UsePAM no
PidFile none
MaxStartups 100
MaxSessions 100
"""


def missing() -> list[str]:
    """Programs that this needs and that are not here."""
    return [program for program in PROGRAMS if shutil.which(program, path=PLACES) is None]


@dataclass
class Host:
    """One host, down until `boot`.

    Args:
        folder: what of it outlives a boot lies there: `home`, its /root.
        binds: folders of this machine that it sees elsewhere, by where.
        reached: the host whose namespace holds the bridge; None for that host itself.
    """

    name: str
    address: str
    folder: Path
    binds: Mapping[str, Path]
    reached: Host | None
    _process: subprocess.Popen[str] | None = None
    _boots: int = 0
    _link: str = ""
    names: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def boot(self) -> None:
        """Brings it up, with an empty /tmp, and joins it to the bridge."""
        assert self._process is None
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        words = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child", "--mount-proc"]
        self._process = subprocess.Popen(
            [*words, "bash", "-c", FIRST_PROCESS, "first", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": PLACES, "HOME": "/root"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("".join(f"{' '.join(map(str, line))}\n" for line in [*self._mounts(), ("end",)]))
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "up\n", f"{self.name} does not come up"
        self._boots += 1
        self._join()

    def _mounts(self) -> list[tuple[str, Path | str, str]]:
        """What hides the machine's own folders. Python and this checkout may lie in one of those: they are put into the
        host's first.
        """
        (self.folder / "tmp").mkdir(mode=0o1777)
        (self.folder / "tmp").chmod(0o1777)
        own = {Path("/root"): self.home, Path("/tmp"): self.folder / "tmp"}
        mounts: list[tuple[str, Path | str, str]] = []
        for needed in {Path(sys.base_prefix), Path(sys.prefix), ROOT}:
            for covered in COVERED:
                if needed.is_relative_to(covered):
                    place = own[covered] / needed.relative_to(covered)
                    place.mkdir(parents=True, exist_ok=True)
                    mounts.append(("bind", needed, str(place)))
        etc = self.folder / "etc"
        etc.mkdir(exist_ok=True)
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self.names.items())]
        (etc / "hosts").write_text("\n".join(lines) + "\n")
        (etc / "resolv.conf").write_text("")
        (etc / "shadow").write_text("root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n")  # sshd lets no locked user in
        mounts += [("bind", etc / name, f"/etc/{name}") for name in ("hosts", "resolv.conf", "shadow")]
        mounts += [("bind", source, place) for place, source in self.binds.items()]
        mounts += [("fresh", name, place) for name, place in (("run", "/run"), ("shm", "/dev/shm"))]
        return mounts + [("bind", source, str(covered)) for covered, source in own.items()]

    def _join(self) -> None:
        if self.reached is None:
            self.ip("link add bridge type bridge")
            self.ip(f"addr add {self.address}/24 dev bridge")
            self.ip("link set bridge up")
            self.ip("route add default dev bridge")
            return
        assert self._process is not None
        self._link = f"{self.name}-{self._boots}"
        self.reached.ip(f"link add {self._link} type veth peer name eth0 netns {self._process.pid}")
        self.reached.ip(f"link set {self._link} master bridge up")
        self.ip(f"addr add {self.address}/24 dev eth0")
        self.ip("link set eth0 up")
        # There is no way out; but a program that asks for its own address looks at the default route.
        self.ip(f"route add default via {OPERATOR}")

    def ip(self, words: str) -> None:
        """Debian's `ip` in the host's network namespace alone, where this machine's process ids hold."""
        assert self._process is not None
        subprocess.run(["nsenter", f"--net=/proc/{self._process.pid}/ns/net", "ip", *words.split()], check=True)

    def cut_off(self) -> None:
        """Takes its network cable out."""
        assert self.reached is not None
        self.reached.ip(f"link set {self._link} down")

    def plug_in(self) -> None:
        """Puts it back."""
        assert self.reached is not None
        self.reached.ip(f"link set {self._link} up")

    def kill(self) -> None:
        """As a power cut: every process of it at once, and its network."""
        if self._process is None:
            return
        process, self._process = self._process, None
        # its end takes the first process along, and with that the kernel ends all others
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        if self.reached is not None and self.reached._process is not None:
            self.reached.ip(f"link del {self._link}")

    def start(self, words: Sequence[str], folder: str = "/root", **environment: str) -> subprocess.Popen[str]:
        """A program on the host, which ends with it at the latest."""
        assert self._process is not None
        spaces = Path(f"/proc/{self._process.pid}/ns")
        entered = [f"--{kind}={spaces / name}" for kind, name in (("mount", "mnt"), ("net", "net"), ("uts", "uts"))]
        said = {"HOME": "/root", "USER": "root", "PATH": f"{Path(sys.prefix) / 'bin'}:{PLACES}", "LANG": "C.UTF-8"}
        said |= {"COLUMNS": "200", "RAY_USAGE_STATS_ENABLED": "0", **environment}
        in_place = ["bash", "-c", 'cd "$1"; shift; exec "$@"', "bash", folder, *words]
        return subprocess.Popen(
            ["nsenter", *entered, f"--pid={spaces / 'pid_for_children'}", *in_place],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=said,
        )

    def run(
        self, words: Sequence[str], folder: str = "/root", *, timeout_s: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program on the host to its end."""
        process = self.start(words, folder, **environment)
        try:
            out, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            end(process)
            raise
        return subprocess.CompletedProcess(list(words), process.returncode, out, errors)


def end(process: subprocess.Popen[str]) -> None:
    """Ends what `Host.start` started, with all that it has started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = [process.pid]
    for pid in found:  # grows on the way
        found += children.get(pid, [])
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def make_key(path: Path) -> str:
    """A new SSH key; its public half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path.with_name(path.name + ".pub").read_text()


def install(host: Host, public_key: str, token: str) -> None:
    """What a host's image carries: SSH, the token, and a Python that has everything but our package; there is no
    network to fetch it by.
    """
    home = host.home
    make_key(home / ".host" / "key")
    (home / ".host" / "sshd_config").write_text(SSHD)
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh" / "authorized_keys").write_text(public_key)
    (home / ".bashrc").write_text("")
    # Ray would put its workers behind everything else; beside another program's work they then hardly come to theirs.
    exported = ("RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0", "RAY_worker_niceness=0")
    (home / ".bash_profile").write_text("".join(f"export {each}\n" for each in exported))
    put_token(home, token)
    _image_of_python(home / "facex_venv")
    pip = home / ".config" / "pip" / "pip.conf"
    pip.parent.mkdir(parents=True)
    # In a file, pip reads the options that begin with `no-build` the other way round: this switches isolation off.
    pip.write_text("[global]\nno-index = true\ndisable-pip-version-check = true\nno-build-isolation = false\n")


def put_token(home: Path, token: str) -> None:
    """Where Ray looks for it."""
    (home / ".ray").mkdir(mode=0o700, exist_ok=True)
    (home / ".ray" / "auth_token").write_text(token)
    (home / ".ray" / "auth_token").chmod(0o600)


def _image_of_python(folder: Path) -> None:
    """A virtual environment that sees this one's packages, but writes only into itself.

    A .pth file's folder is searched as it is: the .pth files in it, by which this environment finds our own checkout,
    do not count there.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    [site] = folder.glob("lib/python*/site-packages")
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "image.pth").write_text("".join(f"{path}\n" for path in sorted(packages)))
    ray = folder / "bin" / "ray"
    ray.write_text("#!/root/facex_venv/bin/python\nfrom ray.scripts.scripts import main\n\nmain()\n")
    ray.chmod(0o755)
