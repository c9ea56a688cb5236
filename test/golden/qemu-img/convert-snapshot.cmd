qemu-img create -q -f raw base.raw 1M
noise base.raw 0 300000
qemu-img create -q -f qcow2 -b base.raw -F raw disk.qcow2 1M
qemu-io -c "write -P 7 100k 100k" disk.qcow2
qemu-img snapshot -c one disk.qcow2
qemu-io -c "write -P 8 0 300k" -c "write -z 500k 100k" disk.qcow2
qemu-img snapshot -c 1 disk.qcow2
qemu-io -c "write -P 9 600k 100k" disk.qcow2
# by id before name, by name, by both
img convert -l 1 -O raw disk.qcow2 first.raw
img convert -l one -O raw disk.qcow2 one.raw
same first.raw one.raw
img convert -l snapshot.name=1 -O raw disk.qcow2 second.raw
img convert -l snapshot.id=2 -O raw disk.qcow2 two.raw
same second.raw two.raw
img convert -l snapshot.id=2,snapshot.name=1 -O qcow2 disk.qcow2 two.qcow2
qemu-img convert -O raw two.qcow2 again.raw
same again.raw two.raw
img compare -f raw -F raw first.raw two.raw
# none
img convert -l nope -O raw disk.qcow2 x.raw
img convert -l snapshot.id=1,snapshot.name=1 -O raw disk.qcow2 x.raw
img convert -l snapshot.id= -O raw disk.qcow2 x.raw
img convert -l snapshot.foo=1 -O raw disk.qcow2 x.raw
img convert -l one -O raw disk.qcow2 disk.qcow2 x.raw
img convert -f raw -l one -O raw base.raw x.raw
# the disk has another size now
qemu-img create -q -f qcow2 sized.qcow2 1M
qemu-io -c "write -P 1 0 1M" sized.qcow2
qemu-img snapshot -c small sized.qcow2
qemu-img resize -q sized.qcow2 2M
qemu-io -c "write -P 2 0 2M" sized.qcow2
img convert -l small -O raw sized.qcow2 small.raw
size-is small.raw 2097152
img info sized.qcow2
