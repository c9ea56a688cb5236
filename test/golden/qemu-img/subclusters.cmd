img create -f qcow2 -o extended_l2=on a 1M
img info a
img info --output=json a
qemu-io -c "write -P 1 0 2k" -c "write -P 2 10k 6k" -c "write -z 20k 4k" -c "write -P 3 64k 128k" -c "discard 128k 64k" a
img map a
img map --output=json a
img check a
img check --output=json a
img convert -O qcow2 -o extended_l2=on,cluster_size=16k a b
img compare a b
img check b
img create -f qcow2 -b a -F qcow2 -o extended_l2=on,cluster_size=2M o 3M
qemu-io -c "write -P 4 100k 1k" -c "write -z 1500k 64k" o
img map --output=json o
img commit o
img check a
img create -f qcow2 -o extended_l2=on,compat=0.10 x 1M
img create -f qcow2 -o extended_l2=on,cluster_size=8k x 1M
img create -f qcow2 -o lazy_refcounts=on l 1M
img info l
img check l
