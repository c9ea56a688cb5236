img create a
img create -f bogus a 1M
img create -f qcow2 a
img create -f qcow2 -o size=1M a 1M
img create -f qcow2 -o bogus=1 a 1M
img create -f qcow2 -o bogus a 1M
img create -f qcow2 -o nobogus a 1M
img create -f qcow2 -o =1 a 1M
img create -f qcow2 -o help=1 a 1M
img create -f qcow2 -o size=x a
img create -f qcow2 -o size=1.3 a
img create -f qcow2 -o size=-1 a
img create -f qcow2 -o cluster_size a 1M
img create -f qcow2 -o cluster_size= a 1M
img create -f qcow2 -o cluster_size=x a 1M
img create -f qcow2 -o cluster_size=1000 a 1M
img create -f qcow2 -o cluster_size=256 a 1M
img create -f qcow2 -o cluster_size=4M a 1M
img create -f qcow2 -o lazy_refcounts=foo a 1M
img create -f qcow2 -o lazy_refcounts= a 1M
img create -f qcow2 -o lazy_refcounts=on,compat=v2 a 1M
img create -f qcow2 -o refcount_bits=x a 1M
img create -f qcow2 -o refcount_bits=16k a 1M
img create -f qcow2 -o refcount_bits=0 a 1M
img create -f qcow2 -o refcount_bits=3 a 1M
img create -f qcow2 -o refcount_bits=128 a 1M
img create -f qcow2 -o refcount_bits=8,compat=0.10 a 1M
img create -f qcow2 -o compat=0.9 a 1M
img create -f qcow2 -o compat=3 a 1M
img create -f qcow2 -o preallocation=x a 1M
img create -f qcow2 -o compression_type=x a 1M
img create -f qcow2 -o data_file_raw=on a 1M
img create -o preallocation=x a 1M
img create -o preallocation=metadata a 1M
img create -f qcow2 -o cluster_size=512 a 1P
# where it cannot be
mkdir d
img create d 1M
img create -f qcow2 d 1M
img create nowhere/a 1M
img create -f qcow2 nowhere/a 1M
img create '' 1M
img create foo:bar 1M
# backing files
img create -b b a 1M
img create -F raw a 1M
img create -f qcow2 -F raw -u a 1M
img create -f qcow2 -b nowhere -F raw a
img create -f qcow2 -b nowhere a 1M
img create -f qcow2 -b nowhere -u a
img create -f qcow2 -b nowhere -u a 1M
img create -f qcow2 -b nowhere -F raw -u a
img create -f qcow2 -b nowhere -F bogus a 1M
img create -f qcow2 -b a -F raw a 1M
img create -f qcow2 -o backing_file=a a 1M
img create -f qcow2 -b '' a 1M
img create -f qcow2 -b '' -F raw a 1M
size r 512
img create -f qcow2 -b r a
img create -q -f qcow2 q 1M
img create -f qcow2 -b q a
img create -f qcow2 -b d -F raw a
img create -f qcow2 -b r -F qcow2 a
