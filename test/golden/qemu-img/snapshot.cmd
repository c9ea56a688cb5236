qemu-img create -q -f qcow2 disk.qcow2 1M
qemu-io -c "write -P 7 100k 300k" disk.qcow2
# none yet
img snapshot -l disk.qcow2
img snapshot disk.qcow2
img snapshot -d one disk.qcow2
img snapshot -a one disk.qcow2
# create
img snapshot -c one disk.qcow2
img snapshot -q -c one disk.qcow2
img snapshot -c "a name with spaces that is longer than its column" disk.qcow2
img snapshot -c "" disk.qcow2
img snapshot -l disk.qcow2
img snapshot -U -l disk.qcow2
img check -q disk.qcow2
# apply by id and by name
qemu-io -c "write -P 9 0 1M" disk.qcow2
img snapshot -a 1 disk.qcow2
qemu-io -c "read -P 7 100k 300k" -c "read -P 0 400k 600k" disk.qcow2
img check -q disk.qcow2
img snapshot -a one disk.qcow2
# delete by name only, the first of two
img snapshot -d 2 disk.qcow2
img snapshot -d one disk.qcow2
img snapshot -l disk.qcow2
img snapshot -c next disk.qcow2
img snapshot -d "" disk.qcow2
img snapshot -l disk.qcow2
img check -q disk.qcow2
# lines
img snapshot -l -c x disk.qcow2
img snapshot -c x -c y disk.qcow2
img snapshot
img snapshot -l disk.qcow2 other
img snapshot -l nofile
img snapshot -c x nofile
img snapshot -U -c x disk.qcow2
img snapshot -l -l disk.qcow2
img snapshot -ll disk.qcow2
img snapshot -x disk.qcow2
img snapshot -c
# the disk gets its size back
qemu-img resize -q disk.qcow2 3M
img snapshot -a one disk.qcow2
qemu-img convert -O raw disk.qcow2 disk.raw
size-is disk.raw 1048576
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 1M
img snapshot -c one old.qcow2
img check -q old.qcow2
# what has no snapshots
qemu-img create -q -f qcow2 -o data_file=d.raw data.qcow2 1M
img snapshot -l data.qcow2
img snapshot -d x data.qcow2
img snapshot -c x data.qcow2
img snapshot -a x data.qcow2
# marked corrupt
hex disk.qcow2 79 02
img snapshot -c x disk.qcow2
# bitmaps
qemu-img create -q -f qcow2 bits.qcow2 1M
img snapshot -c one bits.qcow2
qemu-img bitmap --add bits.qcow2 b
img snapshot -c two bits.qcow2
img snapshot -a one bits.qcow2
qemu-img bitmap --disable bits.qcow2 b
img snapshot -l bits.qcow2
img check -q bits.qcow2
