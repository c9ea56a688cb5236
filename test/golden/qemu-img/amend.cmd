img create -q -f qcow2 m 1M
qemu-io -f qcow2 -c 'write -P 5 0 300k' m
img amend -o compat=0.10 m
img info m
img check m
img amend -p -o compat=1.1 m
img info m
img amend -o compat=1.1 m
img amend -o lazy_refcounts=on m
img info m
img amend -o lazy_refcounts=on,compat=0.10 m
img amend -o refcount_bits=64 m
img amend -o compat=0.10,refcount_bits=16 m
img amend -p -o lazy_refcounts=off m
img amend -o refcount_bits=64,compat=1.1 m
img check m
img amend -o refcount_bits=1 m
img check m
img info m
img map --output=json m
img amend -o compat=0.10 m
img amend -o compat=0.10,refcount_bits=16,size=2M m
img check m
img info m
img amend -o size=1M m
img amend -o size=0 m
img amend -q -p -o compat=1.1 m
img amend --force -o compat=1.1 -o lazy_refcounts=on m
img info m

# zero clusters become others
img create -q -f qcow2 z 1M
qemu-io -f qcow2 -c 'write -P 5 0 256k' -c 'write -z 0 64k' -c 'write -z -u 64k 64k' z
img amend -p -o compat=0.10 z
img map --output=json z
img check z
fill base 0 1048576 9
img create -q -f qcow2 -b base -F raw o 1M
qemu-io -f qcow2 -c 'write -z 0 100k' o
img amend -p -o compat=0.10 o
img check o
img map --output=json o

# help
img amend -f qcow2 -o help
img amend -o help m
img amend -o help
img amend -f raw -o help
img amend -f foo -o help

# refusals
img amend
img amend m
img amend -o compat=0.11 m
img amend -o refcount_bits=3 m
img amend -o refcount_bits=128 m
img amend -o refcount_bits=0 m
img amend -o cluster_size=4096 m
img amend -o preallocation=full m
img amend -o encryption=on m
img amend -o compression_type=zstd m
img amend -o extended_l2=on m
img amend -o encrypt.format=luks m
img amend -o size=1000 m
img amend -o size=1P,compat=1.1 m
img amend -o backing_file=base m
img amend -o backing_fmt=raw o
img amend -o backing_file=base,backing_fmt=raw o
img amend -o data_file=x m
img amend -o data_file_raw=on m
img amend -o data_file_raw=off m
img amend -o foo=1 m
img amend -o nocow=on m
img amend -o '' m
img amend -o compat=1.1 nope
img amend -t foo -o compat=1.1 m
img amend -o compat=1.1 -t none m
img amend -o compat=1.1 m b
img amend -f foo -o size=1 m
img amend -f raw -o size=1 base
img amend -o encrypt.new-secret=x m
img amend -o lazy_refcounts=maybe m

# snapshots, zstd, extended L2
img create -q -f qcow2 s 1M
qemu-io -f qcow2 -c 'write -P 5 0 64k' s
qemu-img snapshot -c one s
qemu-img snapshot -c two s
img amend -o refcount_bits=1 s
img amend -o refcount_bits=2 s
img check s
img amend -o compat=0.10 s
img amend -o compat=0.10,refcount_bits=16 s
img check s
img amend -o compat=1.1 s
img amend -o size=2M s
img amend -o compat=0.10 s
img check s
img create -q -f qcow2 -o compression_type=zstd t 1M
img amend -o compat=0.10 t
img info t
img create -q -f qcow2 -o compression_type=zstd t 1M
qemu-io -f qcow2 -c 'write -c 0 64k' t
img amend -o compat=0.10 t
img create -q -f qcow2 -o extended_l2=on e 1M
img amend -o compat=0.10 e

# a data file
qemu-img create -q -f qcow2 -o data_file=d.data,data_file_raw=on d 1M
img amend -o compat=0.10 d
img amend -o data_file_raw=off d
img info d
img amend -o data_file_raw=on d
img amend -o size=2M d
size-is d.data 2097152
img check d
cp d.data e.data
img amend -o data_file=e.data d
img info d
