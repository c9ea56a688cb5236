qemu-img create -q -f qcow2 a 4M
qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 3M 64k' a
qemu-img snapshot -c one a
qemu-io -f qcow2 -c 'write -P 3 128k 128k' a
img check a
img check --output=json a
fill c.raw 0 262144 97
qemu-img convert -c -O qcow2 c.raw c
img check c
img check --output=json c
qemu-img create -q -f qcow2 b 1M
qemu-img bitmap --add b b0
img check b
qemu-img create -q -f qcow2 -o lazy_refcounts=on,cluster_size=512,refcount_bits=1 l 1M
qemu-io -f qcow2 -c 'write -P 1 0 64k' l
img check l
