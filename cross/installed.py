"""The package on an emulated Debian with systemd, as docs/operations.md says.

Usage: installed.py --machine "qemu-system-…" --ground FOLDER --debian FOLDER PACKAGE.deb, called by cross/installed.
On the machine a script (GUEST_SCRIPT) does what an operator does and says `fact: NAME VALUE` on the console; here
the facts are looked at, and frames are sent and their answers read. Ends with 1 at the first that does not hold.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from board import HOST, Board, initramfs
from peers import check, readings, right, surroundings, wait_for

# A disk, because systemd's sandbox needs one for its root.
INIT = """mkdir -p /root
mount -t ext4 /dev/vda /root || poweroff -f
umount /proc /sys
exec switch_root /root /sbin/init
"""
UNIT = """[Unit]
Description=What an operator does
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /operator.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
[Install]
WantedBy=multi-user.target
"""
GUEST_SCRIPT = """
fact() { echo "fact: $*"; }
code() { "$@" > /tmp/said 2>&1; echo $?; }
state() { systemctl is-active lineside; }
dpkg -i /lineside-1.deb > /tmp/install.log 2>&1; fact install $?
fact user $(id -un lineside) $(stat -c %U:%a /var/lib/lineside) $(stat -c %U:%G:%a /etc/lineside/lineside.toml)
fact enabled $(systemctl is-enabled lineside)
fact first_check $(code runuser -u lineside -- lineside check)
sed -i 's|mqtt://localhost:1883|mqtt://HOST:PORT|; s|^#id = .*|id = "pi"|' /etc/lineside/lineside.toml
fact check $(code runuser -u lineside -- lineside check)
fact started $(code systemctl start lineside) $(state)
fact exposure $(systemd-analyze security lineside 2> /dev/null | sed -n 's/.*Overall exposure level.*: \\([0-9.]*\\).*/\\1/p')
fact capabilities $(sed -n 's/^CapEff:\\t//p' /proc/$(systemctl show -P MainPID lineside)/status)
fact memory_kb $(sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$(systemctl show -P MainPID lineside)/status)
fact answering
read go < /dev/ttyS0
another() { n=0; while [ $n -lt 120 ] && { [ "$(systemctl show -P MainPID lineside)" = "$1" ] || [ "$(state)" != active ]; }; do sleep 1; n=$((n + 1)); done; }
mkdir /etc/systemd/system/lineside.service.d
printf '[Service]\nWatchdogSec=20\nTimeoutAbortSec=5\n' > /etc/systemd/system/lineside.service.d/impatient.conf
systemctl daemon-reload; systemctl restart lineside
old=$(systemctl show -P MainPID lineside)
sleep 30; fact fed $([ "$(systemctl show -P MainPID lineside)" = "$old" ] && echo yes)
kill -STOP "$old"; another "$old"
fact hung_then $(state) $(journalctl -u lineside | grep -c 'Watchdog timeout')
rm -r /etc/systemd/system/lineside.service.d; systemctl daemon-reload
old=$(systemctl show -P MainPID lineside)
kill -9 "$old"; another "$old"
fact killed_then $(state)
dpkg -i /lineside-2.deb > /tmp/upgrade.log 2>&1; fact upgrade $?
fact version $(dpkg-query -W -f '${Version}' lineside) $(grep -c HOST /etc/lineside/lineside.toml) $(state)
fact restarted $([ "$(systemctl show -P MainPID lineside)" != "$old" ] && echo yes)
pid=$(systemctl show -P MainPID lineside)
echo 'nonsense = 1' >> /etc/lineside/lineside.toml
dpkg -i /lineside-3.deb > /tmp/upgrade.log 2>&1; fact bad_config_upgrade $? $(grep -c 'old version keeps running' /tmp/upgrade.log)
fact still_the_old $([ "$(systemctl show -P MainPID lineside)" = "$pid" ] && echo yes) $(state)
sed -i '/nonsense/d' /etc/lineside/lineside.toml
dpkg -i /lineside-1.deb > /tmp/rollback.log 2>&1; fact rolled_back $? $(dpkg-query -W -f '${Version}' lineside) $(state)
fact again
read go < /dev/ttyS0
dpkg -r lineside > /tmp/remove.log 2>&1; fact removed $? $(test -e /etc/lineside/lineside.toml && echo config) $(test -d /var/lib/lineside && echo state) $(pgrep -c lineside)
dpkg -P lineside > /tmp/purge.log 2>&1; fact purged $? $(test -e /etc/lineside/lineside.toml && echo config) $(test -d /var/lib/lineside && echo state)
fact end
poweroff
"""


def another_version(deb, version, folder):
    """The package with another version, as a later release would be."""
    tree = folder / f"deb-{version}"
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
    out = folder / f"lineside-{version}.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Znone", tree, out], check=True, capture_output=True)
    return out


def disk(debian, deb, port, folder):
    """The Debian, the packages and the operator's script as an ext4 image."""
    root = folder / "root"
    subprocess.run(["cp", "-a", debian, root], check=True)
    version = subprocess.run(
        ["dpkg-deb", "-f", deb, "Version"], check=True, capture_output=True, text=True
    ).stdout.strip()
    shutil.copy(deb, root / "lineside-1.deb")
    for number, later in ((2, version + "+1"), (3, version + "+2")):
        shutil.copy(another_version(deb, later, folder), root / f"lineside-{number}.deb")
    (root / "operator.sh").write_text(GUEST_SCRIPT.replace("HOST", HOST).replace("PORT", str(port)))
    units = root / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True, exist_ok=True)
    (units / "operator.service").write_text(UNIT)
    (units / "multi-user.target.wants/operator.service").symlink_to("../operator.service")
    # Nobody logs in; the console is waited for in vain while the machine is slow.
    (units / "serial-getty@ttyAMA0.service").symlink_to("/dev/null")
    image = folder / "disk"
    environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, image, "1500M"], check=True, env=environment)
    shutil.rmtree(root)
    return image, version


class Facts:
    """What the operator's script says on the console."""

    def __init__(self, board):
        self.board = board

    def wait(self, name, patience_secs=600):
        found = lambda: re.search(rf"(?m)^fact: {name}\b ?(.*?)\r?$", self.board.console())
        try:
            wait_for(f"the fact {name}", lambda: self.board.alive() and found(), patience_secs)
        except SystemExit as end:
            sys.exit(f"{end}\n{self.board.console()[-4000:]}")
        return found().group(1).strip()


def answered(broker, listener, name):
    """A few readings, over the emulated network card into the service, and back."""
    cases = list(readings())
    broker.publish("machine/m1/state", *[json.dumps({"id": f"{name}-{case}", **reading}) for case, reading, _ in cases])
    wanted = {f"{name}-{case}": scores for case, _, scores in cases}
    mine = lambda: [a for a in listener.predictions("mill") if a["source"]["frame_id"] in wanted]
    wait_for(f"the readings of {name} to be answered", lambda: len(mine()) >= len(cases))
    check(all(right(a, wanted[a["source"]["frame_id"]]) for a in mine()), f"{name}: {len(cases)} readings rightly answered")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--machine", required=True)
    parser.add_argument("--ground", type=Path, required=True)
    parser.add_argument("--debian", type=Path, required=True)
    parser.add_argument("deb", type=Path)
    arguments = parser.parse_args()
    with surroundings() as (folder, broker, listener, at_the_end):
        image, version = disk(arguments.debian, arguments.deb, broker.port, folder)
        archive = initramfs(arguments.ground, INIT, folder, modules=("virtio_pci", "virtio_net", "virtio_blk", "ext4"))
        drive = ("-drive", f"file={image},format=raw,if=none,id=disk,cache=unsafe", "-device", "virtio-blk-pci,drive=disk")
        board = Board(arguments.machine, arguments.ground, archive, folder, memory_mb=1024, more=drive)
        at_the_end.callback(board.cut_power)
        begun = time.monotonic()
        board.power_on()
        wire = board.uart()
        facts = Facts(board)
        check(facts.wait("install", 900) == "0", f"installed on Debian; {time.monotonic() - begun:.0f} s after power on")
        said = facts.wait("user")
        check(said == "lineside lineside:750 root:lineside:640", f"user, state and configuration: {said}")
        check(facts.wait("enabled") == "enabled", "starts at boot")
        check(facts.wait("first_check") == "0", "the configuration that comes with it passes check")
        check(facts.wait("check") == "0", "so does the operator's")
        check(facts.wait("started") == "0 active", "systemctl start: ready when it said so")
        exposure = facts.wait("exposure")
        check(float(exposure) <= 2.0, f"systemd-analyze security: {exposure}")
        check(int(facts.wait("capabilities"), 16) == 0, "the process has no capabilities")
        check(facts.wait("memory_kb").isdigit(), f"resident memory {facts.wait('memory_kb')} kB")
        facts.wait("answering")
        wait_for("the daemon to be online", lambda: listener.availability() == "online")
        answered(broker, listener, "installed")
        wire.sendall(b"go\n")
        check(facts.wait("fed") == "yes", "the watchdog, set to 20 s, is fed")
        check(facts.wait("hung_then") == "active 1", "hung: the watchdog ends it, systemd starts it again")
        check(facts.wait("killed_then") == "active", "kill -9: systemd starts it again")
        check(facts.wait("upgrade") == "0", "upgraded")
        said = facts.wait("version")
        check(said == f"{version}+1 1 active", f"version, the operator's configuration, state: {said}")
        check(facts.wait("restarted") == "yes", "the new version runs")
        check(facts.wait("bad_config_upgrade") == "0 1", "an upgrade that would refuse the configuration says so")
        check(facts.wait("still_the_old") == "yes active", "and the old process goes on")
        check(facts.wait("rolled_back") == f"0 {version} active", "rolled back")
        facts.wait("again")
        listener.forget_availability()
        answered(broker, listener, "rolled-back")
        wire.sendall(b"go\n")
        check(facts.wait("removed") == "0 config state 0", "removed: configuration and outbox stay, nothing runs")
        check(facts.wait("purged") == "0", "purged: nothing stays")
        facts.wait("end")


main()
