# Sourced by cross/system and cross/installed: reads their arguments and prepares a machine to emulate. Not a program.
#
# Sets `target`, `binary`, `machine` (the emulator's command) and `ground`, a folder with `vmlinuz` and `root/`: Debian's
# kernel modules and busybox for that processor.

named= binary= build=()
while [ $# -gt 0 ]; do
  case $1 in
    --dev) build+=(--dev) ;;
    --binary) shift; binary=${1:?--binary wants a file} ;;
    -h | --help) usage; exit 0 ;;
    -*) die 64 "$1 is not known; there are --dev, --binary and --help" ;;
    *) named=$1 ;;
  esac
  shift
done
[ -n "$named" ] || { usage >&2; exit 64; }
target=$(target_of "$named")
target_facts "$target"
case $target in
  aarch64-*) kernel=linux-image-cloud-arm64 machine="qemu-system-aarch64 -M virt -cpu $cpu" ;;
  armv7-*) kernel=linux-image-armmp machine="qemu-system-arm -M virt,highmem=off -cpu $cpu" ;;
  *) die 64 "whole machines are emulated for aarch64 and armv7, not for $target" ;;
esac
packages qemu-system-arm="${machine%% *}" mosquitto=mosquitto mosquitto-clients=mosquitto_sub openssl=openssl \
  kmod=depmod cpio=cpio dpkg=dpkg-deb
[ -n "$binary" ] || binary=$("$cross/build" "$named" "${build[@]}" | tail -n 1)

# Packages of another architecture, without making it one of this machine's.
ground=$target_dir/system-$deb_arch
if [ ! -e "$ground/done" ]; then
  say "apt-get download $kernel busybox-static ($deb_arch) into $ground"
  rm -rf "$ground"
  mkdir -p "$ground"/apt/{lists/partial,cache/archives/partial} "$ground/root" "$ground/debs"
  apt=(-qq -o "APT::Architecture=$deb_arch" -o "APT::Architectures=$deb_arch" -o "Dir::State=$ground/apt"
    -o "Dir::State::lists=$ground/apt/lists" -o Dir::State::status=/dev/null -o "Dir::Cache=$ground/apt/cache"
    -o APT::Sandbox::User=root)
  # A mirror that is being brought up to date lacks one list; the packages may be in another.
  apt-get "${apt[@]}" update || say "apt-get update failed; trying with what it found"
  image=$(apt-cache "${apt[@]}" depends "$kernel" | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  (cd "$ground/debs" && apt-get "${apt[@]}" download "$image" busybox-static)
  for deb in "$ground"/debs/*.deb; do dpkg-deb -x "$deb" "$ground/root"; done
  version=$(ls "$ground/root/lib/modules")
  PATH=$PATH:/usr/sbin:/sbin depmod -b "$ground/root" "$version"
  cp "$ground/root/boot/vmlinuz-$version" "$ground/vmlinuz"
  touch "$ground/done"
fi
