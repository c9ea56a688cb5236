qemu-img create -q -f qcow2 a.qcow2 10M
img bitmap --list a.qcow2
img bitmap --list --output=json a.qcow2
img bitmap --add a.qcow2 b0
qemu-io -c "write 1M 100k" a.qcow2
img bitmap --add --disable -g 1M a.qcow2 b1
img bitmap --list a.qcow2
img bitmap --list --output=json a.qcow2
img bitmap --list --add a.qcow2 b1
# another name, and what follows goes to it
img bitmap --rename nightly --disable a.qcow2 b0
img bitmap --list a.qcow2
img bitmap --rename b1 a.qcow2 nightly
img bitmap --rename "" a.qcow2 nightly
img bitmap --rename x a.qcow2 nope
img bitmap --rename b0 --enable a.qcow2 nightly
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 1M
img bitmap --add v2.qcow2 b
size r.raw 1048576
img bitmap --add -f raw r.raw b
img bitmap --clear -f raw r.raw b
# too large for the disk
qemu-img create -q -f qcow2 big.qcow2 4T
img bitmap --add -g 512 big.qcow2 b
img bitmap --add -g 8E big.qcow2 b
