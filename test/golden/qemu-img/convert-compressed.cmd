# what does not go with compression
size r 65536
img convert -c -O raw r a
img convert -c -O qcow2 -o encrypt.format=luks r a
img convert -c -O qcow2 -o encryption=on r a
img convert -c -O qcow2 -o preallocation=metadata r a
img convert -c -C -O qcow2 r a
img convert -c -O bogus r a
img convert -c -O qcow2 -o compression_type=zstd,compat=0.10 r a
img convert -c -O qcow2 -o compression_type=lz4 r a
img create -f qcow2 -o compression_type=zstd,compat=v2 a 1M
img create -f qcow2 -o compression_type=lz4 a 1M

# images say how they are compressed
img create -f qcow2 -o compression_type=zstd z 1M
img info --output=json z
img create -q -f qcow2 -b z -F qcow2 -o compression_type=zstd zz
img info z

# data that fills clusters is compressed
qemu-io -f raw -c 'write -P 7 0 64k' r
img convert -c -O qcow2 -o compression_type=zstd r c
img map --output=json c
img map c
img check c
img compare c r
img convert -c -O qcow2 -o cluster_size=4k,compat=0.10 r c
img map --output=json c
img check c
img compare c r

# also into an image that is there
img create -q -f qcow2 -o compression_type=zstd n 128k
img convert -c -n -O qcow2 r n
img map --output=json n
img check n

# nothing is compressed in a data file
img convert -c -O qcow2 -o data_file=d.data r d
img create -q -f qcow2 -o data_file=e.data,data_file_raw=on e 128k
img convert -c -n -O qcow2 r e
img map --output=json e
