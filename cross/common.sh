# Sourced by the scripts of this folder: what they share. Not a program.
#
# What each target needs to be built and emulated stands in `target_facts`; everything else is the same
# for all.

cross=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$cross")
targets=(
  aarch64-unknown-linux-musl
  armv7-unknown-linux-musleabihf
  arm-unknown-linux-musleabihf
  riscv64gc-unknown-linux-musl
  x86_64-unknown-linux-musl
)
# A folder of its own: another compiler works here than in `target/`.
target_dir=${LINESIDE_CROSS_TARGET_DIR:-$root/target/cross}
me=cross/$(basename "$0")

say() { echo "$me: $*" >&2; }
die() {
  local code=$1
  shift
  say "$*"
  exit "$code"
}
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# packages NAME=COMMAND...: installs the Debian package NAME where COMMAND (or a file) is not found, and says so.
packages() {
  local missing=() pair
  for pair in "$@"; do
    [ -e "${pair#*=}" ] || PATH="$PATH:/usr/sbin:/sbin" command -v "${pair#*=}" > /dev/null || missing+=("${pair%%=*}")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  command -v apt-get > /dev/null || die 69 "missing here: ${missing[*]} (names of Debian's packages); install them"
  local sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  say "apt-get install -y ${missing[*]}"
  "${sudo[@]}" apt-get update -qq >&2 || say "apt-get update failed; trying with what is known"
  # RUNLEVEL: a package that brings a service must not start it here.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 "${sudo[@]}" \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null \
    || die 69 "that failed; the line that installs them: apt-get install ${missing[*]}"
}

# A value of a board, its own or the nearest that it inherits; nothing when none says it.
board_value() {
  local board=$1 key=$2 value hops=0
  while [ -n "$board" ] && [ -f "$root/boards/$board.toml" ] && [ $((hops += 1)) -le 8 ]; do
    value=$(sed -n "s/^$key *= *\"\\{0,1\\}\\([^\"#]*[^\"# ]\\).*/\\1/p" "$root/boards/$board.toml")
    [ -z "$value" ] || break
    board=$(sed -n 's/^inherits *= *"\([^"]*\)".*/\1/p' "$root/boards/$board.toml")
  done
  echo "$value"
}

# target_of BOARD|TARGET: the target triple, or an error that names what there is.
target_of() {
  local target
  for target in "${targets[@]}"; do
    [ "$1" != "$target" ] || { echo "$target"; return; }
  done
  if [ "$1" != base ] && [ -f "$root/boards/$1.toml" ]; then
    target=$(board_value "$1" target)
    [ -n "$target" ] || die 64 "the board \"$1\" names no target; name one of: ${targets[*]}"
    echo "$target"
    return
  fi
  local boards
  boards=$(cd "$root/boards" && grep -l '' -- *.toml | sed 's/\.toml$//' | grep -vx base | paste -sd ' ')
  die 64 "\"$1\" is neither a target nor a board. Targets: ${targets[*]}. Boards: $boards"
}

# target_facts TARGET: sets `qemu` (the emulator's suffix), `cpu` (the processor that is
# emulated where no board says otherwise), `deb_arch`, `machine` (as readelf names it).
target_facts() {
  case $1 in
    aarch64-*) qemu=aarch64 cpu=cortex-a53 deb_arch=arm64 machine=AArch64 ;;
    armv7-*) qemu=arm cpu=cortex-a7 deb_arch=armhf machine=ARM ;;
    arm-*) qemu=arm cpu=arm1176 deb_arch=armhf machine=ARM ;;
    riscv64gc-*) qemu=riscv64 cpu=rv64 deb_arch=riscv64 machine=RISC-V ;;
    x86_64-*) qemu= cpu= deb_arch=amd64 machine='Advanced Micro Devices X86-64' ;;
  esac
}

# The binary that `cross/build` leaves for a target and profile.
binary_of() { echo "$target_dir/$1/$2/lineside"; }

# emulator_of BOARD|TARGET TARGET [CPU]: the command that runs a binary of the target on this machine;
# empty where none is needed.
emulator_of() {
  local named=$1 target=$2 wanted=${3:-} qemu cpu deb_arch machine
  target_facts "$target"
  [ -n "$qemu" ] || return 0
  if [ -n "$wanted" ]; then
    cpu=$wanted
  elif [ "$named" != "$target" ]; then
    wanted=$(board_value "$named" cpu)
    # The emulator knows not every core; the next older one of its line runs the same binary.
    case $wanted in
      '' | cortex-a78*) ;;
      cortex-a8 | cortex-a9) [ "$qemu" = arm ] && cpu=$wanted ;;
      *) [ "$qemu" = riscv64 ] || cpu=$wanted ;;
    esac
  fi
  packages qemu-user-static="qemu-$qemu-static"
  local folder=$cross/cpu/$cpu
  # Without a folder the program sees the host's processor and the engine takes generic kernels.
  [ -d "$folder" ] || folder=
  echo "qemu-$qemu-static -cpu $cpu${folder:+ -L $folder}"
}
