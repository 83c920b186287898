#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Test tools/vfio/vfio-tph on simulated devices (pci-sim).  VFIO_TPH says where
# the command is, if that is not beside this script, in tools/vfio or in PATH.
# vfio-pci is loaded anew for each level, so nobody else may use it.

sim=/sys/kernel/config/pci-sim
fabric=$sim/vfio_tph_tool
core=/sys/module/vfio_pci_core
level_before=$(cat $core/parameters/tph 2>/dev/null)
level=
out=$(mktemp)
here=${0%/*}
nr=0
failed=0

skip()
{
	rm -f "$out"
	echo "1..0 # SKIP $*"
	exit 4
}

result()
{
	nr=$((nr + 1))
	echo "$1 $nr $level$2"
	[ "$1" = ok ] && return
	failed=1
	sed 's/^/# /' "$out"
}

# run NAME STATUS TEXT ARGUMENT...: the command prints this text, and ends with
# this status
run()
{
	name="$1"; status=$2; text="$3"
	shift 3
	verdict=ok
	"$tool" "$@" >"$out" 2>&1
	[ $? -eq "$status" ] || verdict="not ok"
	grep -qF -- "$text" "$out" || verdict="not ok"
	result "$verdict" "$name"
}

# endpoint COMPONENT: its address, once it is there
endpoint() { cat "$fabric/$1/bdf"; }

# add COMPONENT ATTRIBUTE=VALUE...
add()
{
	dir=$fabric/$1
	mkdir -p "$dir"
	shift
	for attr in "$@"; do
		echo "${attr#*=}" >"$dir/${attr%%=*}"
	done
}

unload()
{
	for module in vfio_pci_test vfio_pci vfio_pci_core; do
		modprobe -r $module 2>/dev/null
	done
	[ ! -e $core ]
}

# set_level LEVEL: devices with a driver_override are bound by that
set_level()
{
	level="level $1: "
	unload && modprobe vfio_pci_core tph="$1" && modprobe vfio_pci && return
	echo "Bail out! vfio-pci cannot be loaded with level $1"
	exit 1
}

cleanup()
{
	rm -f "$out"
	umount /dev/vfio/devices 2>/dev/null
	if [ -d "$fabric" ]; then
		echo 0 >"$fabric/live"
		find "$fabric" -depth -type d -exec rmdir {} \;
	fi
	unload
	modprobe vfio_pci_core tph="${level_before:-0}" && modprobe vfio_pci
}

for tool in "$VFIO_TPH" "$here/vfio-tph" "$here/../../../vfio/vfio-tph" \
	    "$(command -v vfio-tph)"; do
	[ -f "$tool" ] && [ -x "$tool" ] && break
done
[ -x "$tool" ] || skip "no vfio-tph: make -C tools/vfio"
[ -d $sim ] || skip "pci_sim is not loaded"
[ -e $core ] || modprobe vfio_pci_core 2>/dev/null
[ -e $core/parameters/tph ] || skip "vfio-pci is built without TPH"
! grep -qw pci=notph /proc/cmdline || skip "TPH is turned off"

trap cleanup EXIT
unload || skip "vfio-pci is built in, or in use"

echo "TAP version 13"
echo 1..37

add hb0 'acpi_path=\_SB.PSM0'
add hb0/rp0 prefixes=1
add hb0/rp0/ep0 tph_ext=1 prefixes=1
add hb0/rp1/ep0 tph_modes=3 tph_loc=2 tph_st_size=31 msix=32
add hb0/rp2/ep0 tph=0
add hb0/rp3 tph_completer=0
add hb0/rp3/ep0
add hb0/rp4 prefixes=1
add hb0/rp4/sw0 prefixes=1 prefix_block=1
add hb0/rp4/sw0/dp0 prefixes=1
add hb0/rp4/sw0/dp0/ep0 tph_ext=1 prefixes=1
add hb0/rp5/ep0
add hb1/rp0/ep0
if ! echo 1 >"$fabric/live"; then
	echo "Bail out! There are no devices, or no tables of pci-sim's firmware"
	exit 1
fi

all=$(endpoint hb0/rp0/ep0)
iv=$(endpoint hb0/rp1/ep0)
none=$(endpoint hb0/rp2/ep0)
path=$(endpoint hb0/rp3/ep0)
blocked=$(endpoint hb0/rp4/sw0/dp0/ep0)
unbound=$(endpoint hb0/rp5/ep0)
nodsm=$(endpoint hb1/rp0/ep0)
for bdf in "$all" "$iv" "$none" "$path" "$blocked" "$nodsm"; do
	echo vfio-pci >"/sys/bus/pci/devices/$bdf/driver_override"
done

run "no arguments" 1 "usage:"
run "no CPU" 1 "usage:" "$all" cpu
run "no address" 1 "../x: no PCI address" ../x
run "no such device" 1 "0000:ff:1f.7: no such device" 0000:ff:1f.7
run "not bound" 1 "$unbound: not bound to vfio-pci (driver: none)" "$unbound"

set_level 0
run "table" 0 "TPH_ST             no: takes vfio_pci_core.tph=1" "$all"
run "dma-bufs" 0 "TPH_RESOLVE        yes" "$all"
run "before the opt-in" 0 \
	"modes: NS IV DS, tags: 8 and 16 bits, 16 entries in the capability" "$all"
run "after the opt-in" 0 "modes: NS, tags: 8 bits, no table" "$all"
run "not told" 0 "told to the user   no: takes vfio_pci_core.tph=2" "$all"
run "cpu" 1 \
	"$all: tags of CPUs are not told to the user: takes vfio_pci_core.tph=2" "$all" cpu 0

set_level 2
run "table" 0 "TPH_ST             yes" "$all"
run "after the opt-in" 0 \
	"opt-in   0x000f0307 modes: NS IV DS, tags: 8 and 16 bits, 16 entries in" "$all"
run "told" 0 "told to the user   yes" "$all"
run "not literal" 0 "literal            no" "$all"
run "cpu 0" 0 \
	"cpu 0: 8-bit volatile 0x41 persistent 0x81, 16-bit volatile 0x0a41 persistent 0x0b81" \
	"$all" cpu 0
run "of two CPUs one that does not exist" 1 \
	"cpu 9999: does not exist" "$all" cpu 9999 0
grep -q "^cpu 0: " "$out" && verdict=ok || verdict="not ok"
result "$verdict" "and the other one"
for bad in -1 x 1x "" 4294967296 99999999999999999999; do
	run "bad CPU \"$bad\"" 1 "$bad: no number of a CPU" "$all" cpu 0 "$bad"
done
run "16-bit tags that a switch blocks" 0 \
	"0x81, 16-bit volatile blocked persistent blocked" "$blocked" cpu 0
run "MSI-X table" 0 \
	"modes: NS IV, tags: 8 bits, 32 entries in the MSI-X table" "$iv"
run "cpu, no DS mode" 1 \
	"$iv: tags of CPUs are not told to the user: takes vfio_pci_core.tph=3" "$iv" cpu 0
run "cpu, no _DSM" 1 \
	"$nodsm: tags of CPUs are not told to the user: the platform has none" "$nodsm" cpu 0
run "no capability" 0 \
	"TPH                no: the device has no TPH Requester capability" "$none"
run "cpu, no capability" 1 "$none: no TPH: the device has no" "$none" cpu 0
run "no completer" 0 \
	"TPH_ST             no: the capability, the Root Port or the platform" "$path"

# By the group, where there is no character device; and that one keeps others out
group=$(readlink "/sys/bus/pci/devices/$all/iommu_group")
group=/dev/vfio/${group##*/}
if [ -c "$group" ] && mount -t tmpfs none /dev/vfio/devices 2>/dev/null; then
	run "by the group" 0 "cpu 0: 8-bit volatile 0x41 persistent 0x81" "$all" cpu 0
	umount /dev/vfio/devices
else
	result ok "by the group # SKIP no groups, or no character devices"
fi
if [ -c "$group" ]; then
	exec 9<>"$group"
	run "in use" 1 "$all: in use" "$all"
	exec 9>&-
else
	result ok "in use # SKIP no groups"
fi

set_level 3
run "literal" 0 "literal            yes" "$iv"
run "cpu, no DS mode" 0 "cpu 0: 8-bit volatile 0x41 persistent 0x81" "$iv" cpu 0
run "cpu, no _DSM" 1 "the platform has none" "$nodsm" cpu 0

cat "$fabric/hb0/rp0/ep0/tph_ctrl" >"$out"
[ $(($(cat "$out"))) -eq 0 ] && verdict=ok || verdict="not ok"
result "$verdict" "TPH is off after all"

exit $failed
