"""An emulated machine: kernel, memory for a disk, network card, UART. Used by system.py and installed.py."""

import contextlib
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from peers import ME, wait_for

# The user network of qemu: the guest's address, and the host's loopback as the guest sees it.
GUEST, HOST = "10.0.2.15", "10.0.2.2"
# The beginning of every /init: file systems, modules, network. The shell and its tools are busybox.
INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm
for module in virtio_pci virtio_net virtio_blk ext4; do modprobe $module 2> /dev/null; done
ip link set lo up
ip link set eth0 up
ip addr add {GUEST}/24 dev eth0
ip route add default via {HOST}
echo "board: $(uname -m), up for $(cut -d ' ' -f 1 /proc/uptime) s"
"""


def initramfs(ground, init, into, modules=("virtio_pci", "virtio_net"), files=()):
    """An archive of busybox, kernel modules, `init` (after INIT) and files (from, to), which the kernel unpacks into memory."""
    tree = into / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(ground / "root/bin/busybox", tree / "bin/busybox")
    folder = next((ground / "root/lib/modules").iterdir())
    target = tree / "lib/modules" / folder.name
    target.mkdir(parents=True)
    shutil.copy(folder / "modules.dep", target)
    shutil.copy(folder / "modules.alias", target)
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).name.split(".")[0]] = [path, *others.split()]
    for path in {path for module in modules for path in needs.get(module, [])}:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / path, target / path)
    for source, name in files:
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("*.py", "*.rs", "*.md"))
        else:
            shutil.copy(source, tree / name)
    (tree / "init").write_text(INIT + init)
    (tree / "init").chmod(0o755)
    archive = into / "initramfs"
    with open(archive, "wb") as out:
        names = subprocess.run(["find", ".", "-print0"], cwd=tree, check=True, capture_output=True).stdout
        subprocess.run(["cpio", "--null", "--quiet", "-o", "-H", "newc"], cwd=tree, input=names, stdout=out, check=True)
    return archive


class Board:
    """The emulated machine; its console is in a file, its UART is a socket."""

    def __init__(self, machine, ground, archive, folder, memory_mb=512, more=()):
        self.command = [
            *shlex.split(machine), "-smp", "2", "-m", str(memory_mb), "-display", "none", "-monitor", "none", "-no-reboot",
            "-kernel", str(ground / "vmlinuz"), "-initrd", str(archive),
            # What the kernel does not know becomes the first process's environment: lineside.service has the same.
            "-append", "console=ttyAMA0 quiet panic=-1 MIMALLOC_ALLOW_THP=0 MIMALLOC_PURGE_DELAY=0",
            "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-chardev", f"socket,id=uart,path={folder}/uart,server=on,wait=off", "-device", "pci-serial,chardev=uart",
            "-serial", "stdio", *more,
        ]  # fmt: skip
        self.uart_path, self.console_path = folder / "uart", folder / "console"
        self.process = None

    def power_on(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=open(self.console_path, "w"), stderr=subprocess.STDOUT
        )
        wait_for("the emulator", lambda: self.alive() and self.uart_path.exists(), 20)

    def alive(self):
        if self.process.poll() is not None:
            sys.exit(f"{ME}: FAILED: the machine went off:\n{self.console()}")
        return True

    def console(self):
        return self.console_path.read_text(errors="replace")

    def uart(self):
        end = socket.socket(socket.AF_UNIX)
        end.connect(str(self.uart_path))
        return end

    def say_stop(self):
        self.process.stdin.write(b"stop\n")
        self.process.stdin.flush()

    def cut_power(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
            with contextlib.suppress(FileNotFoundError):
                self.uart_path.unlink()
