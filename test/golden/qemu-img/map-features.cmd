qemu-img create -q -f qcow2 b 1M
qemu-io -f qcow2 -c 'write -P 1 0 64k' -c 'write -z 128k 64k' -c 'write -P 2 512k 128k' b
img map b
img map --output=json b
qemu-img create -q -f qcow2 -b b -F qcow2 m 1M
qemu-io -f qcow2 -c 'write -P 3 64k 64k' -c 'write -z 512k 64k' m
img map m
img map --output=json m
qemu-img create -q -f qcow2 -b m -F qcow2 t 2M
qemu-io -f qcow2 -c 'write -P 4 1M 4k' -c 'write -z -u 0 64k' -c 'discard 64k 64k' t
img map t
img map --output=json t
qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -z 0 64k' -c 'write -z -u 128k 64k' b
img map --output=json b
# compressed
fill c.raw 0 262144 97
img info c.raw
qemu-img convert -c -O qcow2 c.raw c
img map c
img map --output=json c
qemu-io -f qcow2 -c 'write -P 1 0 64k' c
img map c
img map --output=json c
# preallocated
qemu-img create -q -f qcow2 -o preallocation=metadata p 1M
img map --output=json p
qemu-io -f qcow2 -c 'write -P 3 64k 4k' p
img map p
img map --output=json p
qemu-img create -q -f qcow2 -o preallocation=falloc p 1M
img map --output=json p
qemu-img create -q -f qcow2 -o preallocation=full p 1M
img map --output=json p
# small clusters, many tables
qemu-img create -q -f qcow2 -o cluster_size=512 s 1M
qemu-io -f qcow2 -c 'write -P 1 0 100k' -c 'write -P 2 32k 4k' -c 'write -z 300k 200k' s
img map s
img map --output=json s
# version 2
qemu-img create -q -f qcow2 -o compat=0.10 v 1M
qemu-io -f qcow2 -c 'write -P 1 0 64k' -c 'write -z 64k 64k' v
img map --output=json v
