#!/bin/sh
# Installs the binary, models, unit and a first configuration from the folder that this file lies in.
#   install.sh [--root DIR]     DIR: the root of another system, such as an image that is being made
# A configuration that is there already stays as it is.
set -eu

root=
if [ "${1:-}" = --root ]; then root=${2:?--root wants a folder}; fi
here=$(cd "$(dirname "$0")" && pwd)

# A binary for another processor would die of an illegal instruction at its first start.
if [ -z "$root" ] && ! "$here/lineside" --version > /dev/null 2>&1; then
  echo "install.sh: this binary does not run on this processor ($(uname -m)); take the archive for it" >&2
  exit 1
fi
install -d "$root/usr/bin" "$root/usr/share/lineside" "$root/usr/share/doc/lineside" "$root/etc/lineside"
# A running binary cannot be written to, but it can be replaced.
cp "$here/lineside" "$root/usr/bin/.lineside.new"
chmod 0755 "$root/usr/bin/.lineside.new"
mv -f "$root/usr/bin/.lineside.new" "$root/usr/bin/lineside"
rm -rf "$root/usr/share/lineside/models"
cp -R "$here/models" "$root/usr/share/lineside/models"
cp "$here/THIRD-PARTY.txt" "$here/sbom.cdx.json" "$root/usr/share/doc/lineside/"
[ -e "$root/etc/lineside/lineside.toml" ] || install -m 0640 "$here/lineside.toml" "$root/etc/lineside/lineside.toml"
if [ -d "$root/etc/systemd" ]; then
  install -d "$root/usr/lib/sysusers.d" "$root/etc/systemd/system"
  install -m 0644 "$here/sysusers.conf" "$root/usr/lib/sysusers.d/lineside.conf"
  install -m 0644 "$here/lineside.service" "$root/etc/systemd/system/lineside.service"
  if [ -z "$root" ]; then
    systemd-sysusers lineside.conf
    chown root:lineside /etc/lineside/lineside.toml
    systemctl daemon-reload
  fi
fi
echo "install.sh: done; set the broker in /etc/lineside/lineside.toml, then: lineside check && systemctl enable --now lineside"
