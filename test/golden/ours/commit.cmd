# a commit that cannot be finished
qemu-img create -q -f qcow2 -o compat=v2 old 64k
qemu-img snapshot -c one old
img create -q -f qcow2 -b old -F qcow2 longer 1M
size s 1048576
noise s 0 65536
img convert -n -O qcow2 s longer
img commit longer
