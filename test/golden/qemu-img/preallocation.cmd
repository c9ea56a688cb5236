img create -f qcow2 -o preallocation=metadata a 1M
img check a
img map --output=json a
img create -f qcow2 -o preallocation=falloc,cluster_size=4k a 1M
img check a
img map --output=json a
img create -f qcow2 -o preallocation=full,compat=0.10 a 1M
img check a
img map --output=json a
img info a
size base 1048576
img create -f qcow2 -b base -F raw -o preallocation=metadata a 1M
img create -f qcow2 -o preallocation=foo a 1M
img create -o preallocation=metadata a 1M

# convert
noise r 0 300000
size r 1048576
img convert -O qcow2 -o preallocation=metadata r a
img check a
img compare -f raw -F qcow2 r a
img convert -O qcow2 -o preallocation=full r a
img check a
img compare -f raw -F qcow2 r a
img convert -O qcow2 -o preallocation=falloc,cluster_size=512 r a
img check a
img compare -f raw -F qcow2 r a
img convert -O raw -o preallocation=full r b
same r b
img convert -O qcow2 -o preallocation=metadata -B base -F raw r a
img convert -O raw -o preallocation=metadata r b
