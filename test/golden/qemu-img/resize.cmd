img create -q -f qcow2 a.qcow2 1M
img resize -f qcow2 a.qcow2 2M
img resize a.qcow2 +1M
img resize a.qcow2 1M
img resize --shrink a.qcow2 -1M
img resize --shri a.qcow2 1M
img resize -q a.qcow2 +64k
img resize a.qcow2 +0

# what lies behind the new end is gone, what is added is zeros
qemu-io -f qcow2 -c 'write -P 7 0 1M' a.qcow2
img resize -f qcow2 --shrink a.qcow2 300k
img check a.qcow2
img map --output=json a.qcow2
img resize -f qcow2 a.qcow2 1M
img check a.qcow2
img map --output=json a.qcow2

# raw
size r 1000000
img resize -f raw r 2M
size-is r 2097152
img resize -f raw r 1M
img resize -f raw --shrink r 1000
size-is r 1000
img resize -f raw --preallocation=metadata r 4M
size-is r 1000
img resize -f raw --preallocation=falloc r 4M
img resize -f raw --preallocation=full r +1M
size-is r 5242880
img map --output=json -f raw r

# preallocation
img create -q -f qcow2 p.qcow2 1M
img resize --preallocation=metadata p.qcow2 2M
img resize --preallocation=falloc p.qcow2 3M
img resize --preallocation=full p.qcow2 4M
img map --output=json p.qcow2
img check p.qcow2
img resize --preallocation=full p.qcow2 4M
img resize --preallocation=full --shrink p.qcow2 1M
img resize --preallocation=foo p.qcow2 5M

# growing over a longer backing file
fill base 0 1048576 9
img create -q -f qcow2 -b base -F raw o.qcow2 512k
img resize o.qcow2 1M
img map --output=json o.qcow2
img create -q -f qcow2 -b base -F raw o.qcow2 512k
img resize --preallocation=metadata o.qcow2 1M
img map --output=json o.qcow2

# mistakes
img resize
img resize a.qcow2
img resize a.qcow2 xx
img resize a.qcow2 -
img resize a.qcow2 ''
img resize a.qcow2 1M b
img resize a.qcow2 +1M -q
img resize a.qcow2 -100M
img resize --shrink a.qcow2 0
img resize a.qcow2 1000000
img resize nope 3M
img resize -f bogus a.qcow2 3M
img resize a.qcow2 1P
img resize -x a.qcow2 1M

# snapshots
img create -q -f qcow2 -o compat=0.10 s2.qcow2 1M
qemu-img snapshot -c one s2.qcow2
img resize s2.qcow2 2M
img resize --shrink s2.qcow2 512k
img create -q -f qcow2 s3.qcow2 1M
qemu-io -f qcow2 -c 'write -P 7 0 1M' s3.qcow2
qemu-img snapshot -c one s3.qcow2
img resize --shrink s3.qcow2 512k
img check s3.qcow2
qemu-img snapshot -a one s3.qcow2
img check s3.qcow2
img info s3.qcow2

# an external data file
qemu-img create -q -f qcow2 -o data_file=d.data d.qcow2 1M
qemu-io -f qcow2 -c 'write -P 7 0 1M' d.qcow2
img resize d.qcow2 2M
size-is d.data 2097152
img resize --shrink d.qcow2 512k
size-is d.data 524288
img check d.qcow2

# bitmaps
img create -q -f qcow2 b.qcow2 1M
qemu-img bitmap --add b.qcow2 b0
img resize b.qcow2 3M
img resize --shrink b.qcow2 2M
img check -q b.qcow2
img measure -O qcow2 b.qcow2
