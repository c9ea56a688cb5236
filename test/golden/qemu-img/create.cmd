img create a.raw 1M
size-is a.raw 1048576
img create -f raw -o size=2M a.raw
size-is a.raw 2097152
img create -q a.raw 1000
size-is a.raw 1024
img create -f qcow2 a 1M
img info a
img info --output=json a
img create -f qcow2 a 1000
img info a
img create -fqcow2 a 0
img info a
img create -f qcow2 -q a 1M
img create -f qcow2 -o cluster_size=512 a 1M
img info a
img create -f qcow2 -o cluster_size=2M,lazy_refcounts=on,refcount_bits=64 a 1G
img info a
img info --output=json a
img create -f qcow2 -o compat=0.10 a 1M
img info a
img info --output=json a
img create -f qcow2 -o compat=v2 a 1M
img create -f qcow2 -o compat=v3 a 1M
img create -f qcow2 -o cluster_size=4k -o cluster_size=8k,refcount_bits=1 a 1M
img info a
img create -f qcow2 -o size=3M a
img create -f qcow2 -o lazy_refcounts a 1M
img create -f qcow2 -o nolazy_refcounts a 1M
img create -f qcow2 -o refcount_bits=0x10 a 1M
img create -f qcow2 -o preallocation=off a 1M
img create -f qcow2 -o encryption=off,extended_l2=off,compression_type=zlib a 1M
img create -o preallocation=off a.raw 1M
img create -o preallocation=falloc a.raw 1M
img info a.raw
img create -o preallocation=full a.raw 1M
img info a.raw
img create -f qcow2 'a b"c' 1M
img create -f qcow2 -- -a 1M
# with a backing file
img create -f qcow2 base 1M
img create -f qcow2 -b base -F qcow2 top
img info top
img info --output=json top
img create -f qcow2 -b base -F qcow2 top 5M
img create -f qcow2 -o backing_file=base,backing_fmt=qcow2 top
img create -f qcow2 -o backing_file=base -F qcow2 top
img create -f qcow2 -o backing_file=base,backing_fmt=raw -F qcow2 top
size r 1000
img create -f qcow2 -b r -F raw top
img info top
img create -f qcow2 -b nowhere -F raw -u top 1M
img info top
img create -f qcow2 -b 'a,b=c' -F raw -u top 1M
img info top
img create -f qcow2 -o 'backing_file=a,,b' -u -F raw top 1M
mkdir d
img create -f qcow2 -b ../base -F qcow2 d/top
img info d/top
# help
img create -f qcow2 -o help
img create -f qcow2 -o help a
img create -f raw -o ?
img create -o help a
img create -f qcow2 -o cluster_size=4k,help a
img create -f bogus -o help
img convert -O qcow2 -o help a b
