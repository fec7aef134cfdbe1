#!/.nunet/bin/busybox sh
# The first process of a microVM: brings the guest up, runs the program, and talks with the host over the serial line
# (dms/executor/console.py tells how). It lives in /.nunet of the initial RAM disk with a BusyBox of its own.
N=/.nunet
export PATH=$N/bin
busybox mkdir -p /dev /proc /sys /run /tmp
busybox mount -t proc proc /proc # BusyBox finds itself there
busybox --install -s $N/bin
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts 2>/dev/null
mount -t tmpfs shm /dev/shm 2>/dev/null
echo 1 >/proc/sys/kernel/printk # from now on only panics come between our lines
TTY=/dev/$(cat $N/tty)
stty -F "$TTY" 115200 raw -echo
mkfifo $N/frames $N/out $N/err
exec 3<>$N/frames
cat $N/frames >"$TTY" &

say() { printf '\036%s\n' "$*" >&3; }

# One read, one line of at most 4 KiB: so lines of several speakers do not mix in the pipe.
pump() {
  while chunk=$(dd bs=2880 count=1 2>/dev/null | base64 -w 0) && [ -n "$chunk" ]; do say "$1 $chunk"; done
}

fail() {
  say "f $(printf %s "$1" | base64 -w 0)"
  stay
}

# The host ends the machine when it has heard the last line.
stay() {
  sleep 20
  poweroff -f
}

for module in $N/modules/*.ko; do
  [ -e "$module" ] && { insmod "$module" || fail "the kernel refuses the module ${module##*/}"; }
done

device() {
  tries=0
  until [ -b "/dev/$1" ]; do
    tries=$((tries + 1))
    [ $tries -gt 50 ] && fail "the guest has no drive $1: its kernel needs virtio_blk; give kernel_modules"
    sleep 0.1
  done
}

ROOT=/
if [ -s $N/root ]; then
  read -r drive kind <$N/root
  device "$drive"
  ROOT=/newroot
  mkdir -p $ROOT
  if [ -n "$kind" ]; then mount -t "$kind" "/dev/$drive" $ROOT; else mount "/dev/$drive" $ROOT; fi ||
    fail "the root file system cannot be mounted"
  mkdir -p $ROOT$N $ROOT/dev $ROOT/proc $ROOT/sys || fail "the root file system cannot be written to"
  mount --bind $N $ROOT$N && mount --rbind /dev $ROOT/dev && mount -t proc proc $ROOT/proc &&
    mount -t sysfs sysfs $ROOT/sys || fail "the root file system cannot be prepared"
fi

while read -r drive target; do
  device "$drive"
  mkdir -p "$ROOT$target" && tar -xf "/dev/$drive" -C "$ROOT$target" || fail "the volume at $target cannot be unpacked"
done <$N/inputs

while read -r drive target; do
  device "$drive"
  mkdir -p "$ROOT$target" || fail "the directory $target cannot be made"
done <$N/outputs

ifconfig lo up 2>/dev/null
card() {
  for path in /sys/class/net/*; do
    [ "$(cat "$path/address")" = "$1" ] && echo "${path##*/}"
  done
}

servers=
[ -s $N/network ] && while read -r mac address gateway dns mtu six network6 router6 host; do
  card=$(card "$mac")
  [ -n "$card" ] || fail "the guest has no network: its kernel needs virtio_net"
  [ "$mtu" = - ] || ip link set "$card" mtu "$mtu"
  six_conf=/proc/sys/net/ipv6/conf/$card
  [ -d "$six_conf" ] || six=-
  [ "$six" = - ] || echo 0 >"$six_conf/accept_dad" # nobody else can have it
  ip link set "$card" up && ip addr add "$address" dev "$card" || fail "the address $address is refused"
  if [ "$six" != - ]; then
    ip -6 addr add "$six" dev "$card" && ip -6 route add "$network6" via "$router6" dev "$card" ||
      fail "the address $six is refused"
  fi
  [ "$host" = - ] || ip route add "$host" dev "$card" || fail "the way to $host is refused"
  if [ "$gateway" != - ]; then ip route add default via "$gateway" || fail "the gateway $gateway is refused"; fi
  [ "$dns" = - ] || servers="$servers $dns"
done <$N/network
if [ -n "$servers" ]; then
  mkdir -p $ROOT/etc
  for dns in $servers; do echo "nameserver $dns"; done >$ROOT/etc/resolv.conf
fi
[ -e $N/hostname ] && hostname -F $N/hostname

command() {
  mkfifo "$N/out.$1" "$N/err.$1"
  printf %s "$2" | base64 -d >"$N/command.$1"
  pump "1.$1" <"$N/out.$1" &
  out=$!
  pump "2.$1" <"$N/err.$1" &
  err=$!
  chroot $ROOT $N/bin/busybox env -i $N/bin/busybox sh $N/execute "$N/command.$1" \
    >"$N/out.$1" 2>"$N/err.$1" </dev/null 3>&-
  code=$?
  wait $out $err
  rm -f "$N/out.$1" "$N/err.$1" "$N/command.$1"
  say "d.$1 $code"
}

pump o <$N/out &
out=$!
pump e <$N/err &
err=$!
setsid chroot $ROOT $N/bin/busybox env -i $N/bin/busybox sh $N/launch >$N/out 2>$N/err </dev/null 3>&- &
main=$!

# Whoever reads has no child that may end meanwhile: "read" begins anew when SIGCHLD comes, without what it has read of a line.
while read -r verb number words; do
  case $verb in
  exec) (command "$number" "$words" &) ;;
  term) kill -TERM -$main ;;
  esac
done <"$TTY" &
say "r 1"

wait $main
code=$?
for tick in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  kill -0 $out 2>/dev/null || kill -0 $err 2>/dev/null || break
  sleep 0.1 # what it left running may hold its outputs open
done
why=
[ $code = 137 ] && dmesg | grep -q -e 'Out of memory' -e 'oom-kill' && why=oom
while read -r drive target; do
  tar -cf "/dev/$drive" -C "$ROOT$target" . || fail "what the program left in $target does not fit"
done <$N/outputs
sync
say "x $code $why"
stay
