# zeros that are data stay data: nobody looks at what the kernel copies
size r 1048576
noise r 65536 131072
fill r 196608 131072 0
img convert -f raw -C r a
same r a
img map -f raw --output=json a
img convert -f raw -C -O qcow2 r q
img map --output=json q
img check q
img convert -C -O raw q a
same r a
img map -f raw --output=json a
img convert -C -O qcow2 q p
img map --output=json p
img compare p q
# several sources, one after another
img convert -C -O qcow2 q q p
img map --output=json p
# what is not a multiple of clusters
size s 200704
noise s 1024 199680
img convert -f raw -C -O qcow2 s p
img map --output=json p
img compare -f raw -F qcow2 s p
# over what is there, and over a backing file
qemu-io -f qcow2 -c "write -P 9 0 1M" q
img convert -f raw -n -C -O qcow2 r q
img map --output=json q
img compare r q
img convert -f raw -C -O qcow2 -B q -F qcow2 s p
img map --output=json p
# what is compressed or enciphered goes through memory, and is looked at
img convert -f raw -c -O qcow2 s c
img convert -C -O raw c a
img map -f raw --output=json a
same s a
