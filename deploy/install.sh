#!/bin/sh
# Installs the binary, models, unit and a first configuration from the folder that this file lies in.
#
#   install.sh               into this system: as root
#   install.sh --root DIR    into the root of another system, such as an image that is being made
#
# Again with a newer archive, it is an upgrade: a configuration that is there already stays as it is, and models that
# are not in the archive stay too.
set -eu
# Files are for everybody to read, whatever root's own habit is.
umask 022

usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
refuse() {
  echo "install.sh: $1" >&2
  usage >&2
  exit 64
}

root=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --root | --root=*)
      case $1 in
        --root) shift; root=${1:-} ;;
        *) root=${1#--root=} ;;
      esac
      [ -d "$root" ] || refuse "--root wants a folder that is there, not \"$root\""
      # `/` itself is this system.
      root=$(cd "$root" && pwd)
      root=${root%/}
      ;;
    *) refuse "\"$1\" is not known" ;;
  esac
  shift
done
here=$(cd "$(dirname "$0")" && pwd)
config=/etc/lineside/lineside.toml

# A binary for another processor would die of an illegal instruction at its first start.
if [ -z "$root" ] && ! "$here/lineside" --version > /dev/null 2>&1; then
  echo "install.sh: this binary does not run on this processor ($(uname -m)); take the archive for it" >&2
  exit 1
fi
upgrade=
[ ! -e "$root/usr/bin/lineside" ] || upgrade=yes
install -d "$root/usr/bin" "$root/usr/share/lineside/models" "$root/usr/share/doc/lineside" "$root/etc/lineside"
# A running binary cannot be written to, but it can be replaced.
cp "$here/lineside" "$root/usr/bin/.lineside.new"
chmod 0755 "$root/usr/bin/.lineside.new"
mv -f "$root/usr/bin/.lineside.new" "$root/usr/bin/lineside"
for model in "$here"/models/*; do
  new=$root/usr/share/lineside/.model.new
  to=$root/usr/share/lineside/models/$(basename "$model")
  rm -rf "$new"
  cp -R "$model" "$new"
  chmod -R u=rwX,go=rX "$new"
  rm -rf "$to"
  mv "$new" "$to"
done
install -m 0644 "$here/THIRD-PARTY.txt" "$here/sbom.cdx.json" "$here/operations.md" "$root/usr/share/doc/lineside/"
# It may hold a broker's password. Whose it is, tmpfiles.conf says: an image has no user yet.
[ -e "$root$config" ] || install -m 0640 "$here/lineside.toml" "$root$config"
if [ -d "$root/etc/systemd" ]; then
  install -d "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/etc/systemd/system"
  install -m 0644 "$here/sysusers.conf" "$root/usr/lib/sysusers.d/lineside.conf"
  install -m 0644 "$here/tmpfiles.conf" "$root/usr/lib/tmpfiles.d/lineside.conf"
  install -m 0644 "$here/lineside.service" "$root/etc/systemd/system/lineside.service"
fi
if [ -n "$root" ]; then
  echo "install.sh: done; set the broker in $root$config, then: systemctl --root $root enable lineside"
  exit 0
fi
if [ -d /etc/systemd ]; then
  systemd-sysusers lineside.conf
  systemd-tmpfiles --create lineside.conf
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  if [ -n "$upgrade" ]; then
    # A configuration that the new version would refuse must not end a working line.
    if lineside check -c "$config" > /dev/null; then
      systemctl try-restart lineside
      echo "install.sh: done; where an old version ran, the new one runs now"
    else
      echo "install.sh: done; an old version that runs keeps running until the configuration passes: lineside check" >&2
    fi
    exit 0
  fi
fi
echo "install.sh: done; set the broker in $config, then: lineside check && systemctl enable --now lineside"
