img create -f qcow2 -o data_file=a.data a 1M
img info a
img info --output=json a
size-is a.data 1048576
img map --output=json a
img check a
qemu-io -c "write -P 1 0 64k" -c "write -P 2 200k 4k" -c "write -z 512k 64k" a
img map a
img map --output=json a
img check a
img check --output=json a
img convert -O raw a flat
img compare a flat
img convert -O qcow2 -o data_file=b.data flat b
img map --output=json b
img check b
# by itself a raw image
img create -f qcow2 -o data_file=r.data,data_file_raw=on r 1M
img info r
img map r
img map --output=json r
img check r
qemu-io -c "write -P 3 64k 64k" -c "write -z 0 128k" -c "write -P 4 900k 100k" r
img map --output=json r
img compare -f raw -F qcow2 r.data r
img convert -O qcow2 -o data_file=s.data,data_file_raw=on r s
img info s
img compare -f raw -F qcow2 s.data r
# preallocation
img create -f qcow2 -o data_file=p.data,preallocation=metadata p 1M
img map --output=json p
img check p
# over a backing file
img create -f qcow2 -b r -F qcow2 -o data_file=o.data o
img info o
qemu-io -c "write -P 5 100k 10k" o
img map o
img commit o
img check r
img map --output=json o
# what does not go together
img create -f qcow2 -o data_file=x.data,compat=0.10 x 1M
img create -f qcow2 -o data_file_raw=on x 1M
img create -f qcow2 -b r -F qcow2 -o data_file=x.data,data_file_raw=on x
img create -f qcow2 -o data_file= x 1M
# a data file that is not there
rm a.data
img info a
img check a
img check -U a
img map a
img convert -O raw a c
