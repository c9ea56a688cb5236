# a new disk
img measure --size 1G
img measure --size 1G -O qcow2
img measure --size 1G -O qcow2 --output=json
img measure --size 1G --output json
img measure --size 0 -O qcow2
img measure --size 1000
img measure --size 1000 -O qcow2
img measure --size 1G -O qcow2 -o cluster_size=512
img measure --size 1G -O qcow2 -o cluster_size=2M,refcount_bits=1
img measure --size 1G -O qcow2 -o cluster_size=4k,refcount_bits=64
img measure --size 1G -O qcow2 -o extended_l2=on
img measure --size 1G -O qcow2 -o compat=0.10
img measure --size 1T -O qcow2 -o preallocation=metadata
img measure --size 1T -O qcow2 -o preallocation=falloc
img measure --size 1T -O qcow2 -o preallocation=full
img measure --size 1G -O raw -o preallocation=full
img measure --size 64T -O qcow2 -o cluster_size=1M
img measure --size 2P -O qcow2 -o cluster_size=2M
img measure --size 1G -O qcow2 -o size=5G
img measure --size 1G -O qcow2 -o backing_file=x,backing_fmt=raw
img measure --size 1G -O qcow2 -o data_file=x

# what is there
noise r 100000 300000
fill r 700000 5000 1
size r 10000000
img measure -f raw r
img measure -f raw -O qcow2 r
img measure -f raw -O qcow2 --output=json -o cluster_size=512 r
img measure -f raw -O qcow2 -o cluster_size=2M r
img create -q -f qcow2 a.qcow2 100M
qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -z 10M 1M' -c 'write -P 2 20M 70k' -c 'discard 100k 300k' a.qcow2
img measure a.qcow2
img measure -O qcow2 a.qcow2
img measure -O qcow2 --output=json a.qcow2
img measure -O qcow2 -o cluster_size=4k a.qcow2
img measure -O qcow2 -o compat=0.10 a.qcow2
img measure -O qcow2 -o preallocation=full a.qcow2
img measure -O qcow2 -o backing_file=b a.qcow2
img create -q -f qcow2 -b a.qcow2 -F qcow2 o.qcow2 120M
qemu-io -f qcow2 -c 'write -P 3 50M 3M' o.qcow2
img measure -O qcow2 o.qcow2
img measure --image-opts -O qcow2 driver=qcow2,file.filename=a.qcow2
qemu-img convert -c -O qcow2 -f raw r c.qcow2
img measure -O qcow2 c.qcow2

# snapshots and bitmaps
qemu-img snapshot -c one a.qcow2
qemu-io -f qcow2 -c 'write -P 4 60M 5M' a.qcow2
img measure -O qcow2 a.qcow2
img measure -O qcow2 -l one a.qcow2
img measure -O qcow2 -l snapshot.name=one a.qcow2
img measure -O qcow2 -l two a.qcow2
qemu-img bitmap --add a.qcow2 b0
qemu-img bitmap --add -g 512 a.qcow2 another
img measure -O qcow2 a.qcow2
img measure -O qcow2 --output=json -o cluster_size=512 a.qcow2
img measure -O raw a.qcow2

# mistakes
img measure
img measure --size 1G a.qcow2
img measure a.qcow2 b
img measure -O foo --size 1G
img measure -O qcow2 -o foo=1 --size 1G
img measure -O raw -o cluster_size=1 --size 1
img measure -O qcow2 -o help
img measure -O qcow2 -o help --size 1
img measure --size xx
img measure -l foo --size 1G
img measure -f raw --size 1G
img measure --output=x --size 1
img measure -O qcow2 -o cluster_size=512 --size 1P
img measure -O qcow2 -o cluster_size=1000 --size 1
img measure -O qcow2 -o compat=0.10,refcount_bits=8 --size 1G
img measure -O qcow2 -o compat=v3 --size 1G
img measure -O qcow2 -o refcount_bits=3 --size 1
img measure -O qcow2 -o extended_l2=on,cluster_size=4096 --size 1G
img measure -O qcow2 -o preallocation=foo --size 1G
img measure -O qcow2 -o size=x --size 1
img measure -O qcow2 -o encrypt.format=luks --size 1G
img measure nope
